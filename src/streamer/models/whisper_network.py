"""Whisper on CTranslate2: segments of several sessions in one call, texts and times of words out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamer.audio.mel import log_mel
from streamer.errors import ModelLoadError
from streamer.models.weight_files import missing_package, require_file
from streamer.transcripts.transcript import Word

Task = Literal["transcribe", "translate"]

_TOKENS_PER_SECOND = 50
_MAX_PROMPT = 223
"""Tokens of a prompt: half the decoder's context, less the one that begins it."""
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces, whose words here are their characters."""


@dataclass(frozen=True, slots=True)
class Request:
    """One segment to recognise. `language`: a code of Whisper's, None to detect it. `prompt`: text before it."""

    samples: NDArray[np.float32]
    language: str | None
    task: Task
    prompt: str
    beam_size: int
    words: bool


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The best text for one segment.

    `log_probability`: the mean of the tokens'. `no_speech`: probability of no speech. `compression`: the text's length
    over its length in zlib.
    """

    text: str
    language: str | None
    log_probability: float
    no_speech: float
    compression: float
    words: list[Word]


class WhisperNetwork:
    """The network and the tokenizer of one directory in CTranslate2's format."""

    def __init__(self, directory: Path, device: str, compute_type: str, threads: int) -> None:
        """Read the network. Raises ModelLoadError when a library or a file is missing or invalid."""
        try:
            import ctranslate2  # noqa: PLC0415 (an extra)
            import tokenizers  # noqa: PLC0415
        except ImportError as error:
            raise missing_package(error.name or "ctranslate2", "whisper") from error
        require_file(directory, "weights", "model.bin")
        tokenizer = require_file(directory, "tokenizer", "tokenizer.json")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(tokenizer)
            self._model = ctranslate2.models.Whisper(
                str(directory), device=device, compute_type=compute_type, intra_threads=threads
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelLoadError(f"{directory} holds no Whisper model that can be read: {reason}") from error
        self._storage = ctranslate2.StorageView.from_array
        self._start = self._token("<|startoftranscript|>")
        self._end = self._token("<|endoftext|>")
        self._bare = self._token("<|notimestamps|>")
        self._previous = self._token("<|startofprev|>")

    @property
    def languages(self) -> frozenset[str]:
        """Codes of the supported languages."""
        if not self._model.is_multilingual:
            return frozenset({"en"})
        vocabulary = self._tokenizer.get_vocab()
        return frozenset(name[2:-2] for name in vocabulary if name.startswith("<|") and 4 < len(name) < 8)

    def recognise(self, requests: Sequence[Request], temperature: float = 0.0) -> list[Hypothesis]:
        """Return the hypothesis of each segment: encoded in one call, and decoded in one for each kind of request."""
        mels = np.stack([log_mel(request.samples, self._model.n_mels) for request in requests])
        encoded = np.asarray(self._model.encode(self._storage(mels), to_cpu=True))
        languages = self._languages(requests, encoded)
        starts = [self._beginning(request, language) for request, language in zip(requests, languages, strict=True)]
        prompts = [
            [*self._prompt(request), *start, self._bare] for request, start in zip(requests, starts, strict=True)
        ]
        results: list[Hypothesis | None] = [None] * len(requests)
        kinds: dict[tuple[int, int], list[int]] = {}
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            kinds.setdefault((request.beam_size, len(prompt)), []).append(index)
        for (beam, _), indices in kinds.items():
            features = self._storage(np.ascontiguousarray(encoded[indices]))
            answers = self._model.generate(
                features,
                [prompts[index] for index in indices],
                beam_size=1 if temperature else beam,
                return_scores=True,
                return_no_speech_prob=True,
                sampling_topk=0 if temperature else 1,
                sampling_temperature=temperature or 1.0,
            )
            for index, answer in zip(indices, answers, strict=True):
                results[index] = self._hypothesis(
                    requests[index], starts[index], languages[index], answer, encoded[index]
                )
        return [hypothesis for hypothesis in results if hypothesis is not None]

    def _languages(self, requests: Sequence[Request], encoded: NDArray[np.float32]) -> list[str | None]:
        if not self._model.is_multilingual:
            return ["en"] * len(requests)
        unknown = [index for index, request in enumerate(requests) if request.language is None]
        languages = [request.language for request in requests]
        if unknown:
            found = self._model.detect_language(self._storage(np.ascontiguousarray(encoded[unknown])))
            for index, ranked in zip(unknown, found, strict=True):
                languages[index] = ranked[0][0][2:-2]
        return languages

    def _beginning(self, request: Request, language: str | None) -> list[int]:
        if not self._model.is_multilingual:
            return [self._start]
        return [self._start, self._token(f"<|{language}|>"), self._token(f"<|{request.task}|>")]

    def _prompt(self, request: Request) -> list[int]:
        if not request.prompt.strip():
            return []
        tokens = self._tokenizer.encode(" " + request.prompt.strip(), add_special_tokens=False).ids
        return [self._previous, *tokens[-_MAX_PROMPT:]]

    def _hypothesis(
        self, request: Request, start: list[int], language: str | None, answer: Any, encoded: NDArray[np.float32]
    ) -> Hypothesis:
        tokens = [token for token in answer.sequences_ids[0] if token < self._end]
        text = self._tokenizer.decode(tokens).strip()
        mean = answer.scores[0] * len(tokens) / (len(tokens) + 1)  # the end is a token, too
        packed = text.encode()
        compression = len(packed) / len(zlib.compress(packed)) if packed else 0.0
        words = self._words(request, start, tokens, language, encoded) if request.words and text else []
        return Hypothesis(text, language, float(mean), float(answer.no_speech_prob), compression, words)

    def _words(
        self, request: Request, start: list[int], tokens: list[int], language: str | None, encoded: NDArray[np.float32]
    ) -> list[Word]:
        """Align the tokens with the audio by the decoder's attention; see `align` of CTranslate2."""
        frames = max(1, min(3_000, len(request.samples) // 160))
        [aligned] = self._model.align(self._storage(np.ascontiguousarray(encoded[None])), start, [tokens], [frames])
        first: dict[int, int] = {}
        for token, time in aligned.alignments:
            first.setdefault(token, time)
        length = len(request.samples) / 16_000
        at = [min(length, first.get(index, frames // 2) / _TOKENS_PER_SECOND) for index in range(len(tokens))] + [
            length
        ]
        if (ending := first.get(len(tokens))) is not None:
            at[-1] = min(length, ending / _TOKENS_PER_SECOND)
        words = []
        for text, begin, end in self._split(tokens, spaced=language not in _UNSPACED):
            probability = float(np.mean(aligned.text_token_probs[begin:end] or [0.0]))
            words.append(Word(text, at[begin], max(at[begin], at[end]), confidence=round(probability, 4)))
        return words

    def _split(self, tokens: Sequence[int], *, spaced: bool) -> list[tuple[str, int, int]]:
        """Return (text, first token, behind its last token) of each word; a character of several tokens is not cut."""
        words: list[tuple[str, int, int]] = []
        begin = 0
        for index in range(len(tokens)):
            text = self._tokenizer.decode(tokens[begin : index + 1])
            if "\ufffd" in text:  # the rest of the character is in the next token
                continue
            fresh = not words or (text.startswith(" ") if spaced else True)
            if fresh or not text.strip():
                words.append((text.strip(), begin, index + 1))
            else:
                before = words.pop()
                words.append((before[0] + text, before[1], index + 1))
            begin = index + 1
        return [word for word in words if word[0]]

    def _token(self, text: str) -> int:
        number = self._tokenizer.token_to_id(text)
        if number is None:
            raise ModelLoadError(f"the tokenizer has no {text}: expected one of Whisper's")
        return int(number)
