"""Speech recognition with faster-whisper and weights from a directory: `pip install streamer-audio[faster-whisper]`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamer.errors import ModelFailed
from streamer.models.contract import Model, Segment
from streamer.models.directory import existing, missing_package, need


class FasterWhisper(Model):
    """Returns `{"text", "language", "words": [{"word", "start_time", "end_time", "confidence"}]}`.

    Times are seconds from the start of the stream. A client may send the options `{"language": "en"}`.

    `directory`: weights converted for CTranslate2 (`model.bin`, `config.json`, a tokenizer and vocabulary). `device`,
    `compute_type` and `cpu_threads` as in faster-whisper. Nothing is downloaded. `beam_size` is for finals; interims
    use a beam of 1 and have no word times.

    CTranslate2 releases the GIL, and one model serves the calls of all threads in turn, so the executor is a thread.
    """

    name = "faster_whisper"
    timeout_floor_s = 60.0

    def __init__(
        self,
        directory: Path,
        device: str = "auto",
        compute_type: str = "default",
        cpu_threads: int = 0,
        beam_size: int = 5,
        language: str | None = None,
    ) -> None:
        self._directory = existing("directory", directory)
        self._device = device
        self._compute_type = compute_type
        self._cpu_threads = cpu_threads
        self._beam_size = beam_size
        self._language = language
        self._model: Any = None

    def load(self) -> None:
        try:
            from faster_whisper import WhisperModel  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("faster-whisper", "faster-whisper") from error
        need(self._directory, "weights", "model.bin")
        self._model = WhisperModel(
            str(self._directory),
            device=self._device,
            compute_type=self._compute_type,
            cpu_threads=self._cpu_threads,
            local_files_only=True,
        )

    def unload(self) -> None:
        self._model = None

    def infer(self, batch: Sequence[Segment]) -> Sequence[Any]:
        return [self._recognise(item) for item in batch]

    def _recognise(self, item: Segment) -> object:
        language = item.options.get("language", self._language)
        if language is not None and language not in self._model.supported_languages:
            known = ", ".join(self._model.supported_languages)
            return ModelFailed(f"options.language: expected one of {known}, got {str(language)[:40]!r}")
        parts, info = self._model.transcribe(
            item.samples,
            language=language,
            beam_size=self._beam_size if item.is_final else 1,
            word_timestamps=item.is_final,
            condition_on_previous_text=False,
        )
        offset = item.start / item.sample_rate
        text, words = [], []
        for part in parts:
            text.append(part.text.strip())
            words += [
                {
                    "word": word.word.strip(),
                    "start_time": round(offset + word.start, 3),
                    "end_time": round(offset + word.end, 3),
                    "confidence": round(word.probability, 4),
                }
                for word in part.words or ()
            ]
        return {"text": " ".join(text), "language": info.language, "words": words}
