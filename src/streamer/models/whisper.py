"""Speech recognition by Whisper on CTranslate2, in up to 99 languages: `pip install streamer-audio[whisper]`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from streamer.audio.mel import RATE, SECONDS
from streamer.errors import ModelFailed
from streamer.models.catalogue import CATALOGUE, WHISPER_FILES
from streamer.models.contract import AudioSegment, Model, WordTimes
from streamer.models.weights import find_weights
from streamer.models.whisper_network import Hypothesis, Request, WhisperNetwork
from streamer.transcripts.transcript import Transcript, Word

_MAX_BEAM = 10
_MAX_PROMPT = 2_000
_RETRY_TEMPERATURE = 0.4
_ENGLISH = frozenset({"en"})


class Whisper(Model):
    """Returns a Transcript with times and confidences of words, in interims too.

    `weights`: a size (`tiny.en`, `base`, `small`, `large-v3-turbo`, ...), `owner/name` on the hub, or a directory in
    CTranslate2's format. `device`, `compute_type`: as CTranslate2 has them. `threads`: of one call; 0 for all cores.
    `language`: None to find it out for each segment.

    A client may say in its options: `language`; `task` ("transcribe", or "translate" into English); `prompt`, text that
    came before; `beam_size` of finals (interims take 1, the quick way).

    Answers on silence are dropped as faster-whisper drops them: when no speech is likelier than `no_speech_threshold`
    and the text less likely than `log_probability_threshold`. A text that repeats itself (`compression_threshold`) is
    decoded once more with some chance, and dropped when it repeats itself again.

    A call costs the same for one second of speech as for thirty. CTranslate2 releases the GIL: hence a thread.
    """

    name = "whisper"
    sample_rate = RATE
    max_batch_size = 8
    word_times: WordTimes = "model"
    known_options: tuple[str, ...] = ("language", "task", "prompt", "beam_size")
    max_batch_seconds = 240.0
    timeout_floor_s = 60.0

    def __init__(
        self,
        weights: str = "base",
        revision: str | None = None,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 0,
        beam_size: int = 5,
        language: str | None = None,
        no_speech_threshold: float = 0.6,
        log_probability_threshold: float = -1.0,
        compression_threshold: float = 2.4,
    ) -> None:
        if is_english_only(weights):
            self.known_options = ("prompt", "beam_size")
        self._weights = weights
        self._revision = revision
        self._device = device
        self._compute_type = compute_type
        self._threads = threads
        self._defaults: Mapping[str, Any] = {"beam_size": beam_size, "language": language}
        self._no_speech = no_speech_threshold
        self._log_probability = log_probability_threshold
        self._compression = compression_threshold
        self._network: WhisperNetwork | None = None
        self._languages: frozenset[str] = frozenset()

    def fetch(self) -> Path:
        return find_weights("whisper", self._weights, WHISPER_FILES, self._revision)

    def load(self) -> None:
        self._network = WhisperNetwork(self.fetch(), self._device, self._compute_type, self._threads)
        self._languages = self._network.languages

    def unload(self) -> None:
        self._network = None

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        requests = [self._requests(item) for item in batch]
        flat = [request for part in requests if isinstance(part, list) for request in part]
        hypotheses = iter(self._recognise(flat) if flat else ())
        return [
            part if isinstance(part, ModelFailed) else _joined([next(hypotheses) for _ in part], item.is_final)
            for part, item in zip(requests, batch, strict=True)
        ]

    def _requests(self, item: AudioSegment) -> list[Request] | ModelFailed:
        """Return the requests to the network: one piece per half minute."""
        try:
            options = self._read(item.options)
        except ModelFailed as error:
            return error
        if not item.is_final:
            options["beam_size"] = 1
        step = SECONDS * RATE
        return [
            Request(item.samples[at : at + step], words=True, **options) for at in range(0, len(item.samples), step)
        ]

    def _read(self, options: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**self._defaults, **{key: value for key, value in options.items() if value is not None}}
        language = merged["language"]
        if language is not None:
            language = str(language).partition("-")[0].lower()
            if language not in self._languages:
                known = ", ".join(sorted(self._languages))
                raise _wrong("language", f"one of {known}", merged["language"])
        task = merged.get("task", "transcribe")
        if task not in ("transcribe", "translate"):
            raise _wrong("task", "transcribe or translate", task)
        if task == "translate" and self._languages == _ENGLISH:
            raise _wrong("task", "transcribe, because these weights know English only", task)
        prompt = merged.get("prompt", "")
        if not isinstance(prompt, str) or len(prompt) > _MAX_PROMPT:
            raise _wrong("prompt", f"a text of at most {_MAX_PROMPT} characters", prompt)
        beam = merged["beam_size"]
        if type(beam) is not int or not 1 <= beam <= _MAX_BEAM:
            raise _wrong("beam_size", f"an integer from 1 to {_MAX_BEAM}", beam)
        return {"language": language, "task": task, "prompt": prompt, "beam_size": beam}

    def _recognise(self, requests: Sequence[Request]) -> list[Hypothesis | None]:
        assert self._network is not None, "load() comes first"
        hypotheses = self._network.recognise(requests)
        repeats = [index for index, one in enumerate(hypotheses) if one.compression > self._compression]
        if repeats:
            again = self._network.recognise([requests[index] for index in repeats], _RETRY_TEMPERATURE)
            for index, one in zip(repeats, again, strict=True):
                hypotheses[index] = one
        return [one if self._is_speech(one) else None for one in hypotheses]

    def _is_speech(self, hypothesis: Hypothesis) -> bool:
        silent = hypothesis.no_speech > self._no_speech and hypothesis.log_probability < self._log_probability
        return not silent and hypothesis.compression <= self._compression


def is_english_only(weights: str) -> bool:
    """Return whether weights transcribe English only, judged by their name: no file is read before `load`."""
    known = CATALOGUE.get(f"whisper:{weights}")
    return known.languages == "en" if known is not None else weights.rstrip("/").endswith(".en")


def _joined(parts: Sequence[Hypothesis | None], is_final: bool) -> Transcript:
    """Return one transcript from the half minutes of a segment, without the discarded ones."""
    hypotheses = [(index * SECONDS, part) for index, part in enumerate(parts) if part is not None]
    if not hypotheses:
        return Transcript("")
    words: list[Word] = [
        replace(word, start_time=word.start_time + offset, end_time=word.end_time + offset)
        for offset, part in hypotheses
        for word in part.words
    ]
    scores = [word.confidence or 0.0 for word in words]
    [_, first] = hypotheses[0]
    return Transcript(
        " ".join(part.text for _, part in hypotheses),
        words,
        confidence=round(sum(scores) / len(scores), 4) if scores else None,
        language=first.language,
        extra={
            "avg_logprob": round(first.log_probability, 4),
            "no_speech_prob": round(first.no_speech, 4),
            "compression_ratio": round(first.compression, 3),
        }
        if is_final
        else {},
    )


def _wrong(option: str, expected: str, got: object) -> ModelFailed:
    return ModelFailed(f"options.{option}: expected {expected}, got {str(got)[:40]!r}")
