"""English with pocketsphinx and its included model: `pip install streamer-audio[pocketsphinx]`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from streamer.errors import ModelFailed, ModelLoadError
from streamer.models.contract import AudioSegment, Executor, Model, WordTimes
from streamer.models.weight_files import missing_package
from streamer.transcripts.transcript import Transcript, Word

_NO_SETTINGS: Mapping[str, object] = MappingProxyType({})


class PocketSphinx(Model):
    """Returns a Transcript with the times and confidences of words.

    Confidences are in [0, 1]. `settings`: those of pocketsphinx (`lm`,
    `dict`, `hmm`, `beam`, ...); default: its US English model. A decoder is not thread-safe and holds the GIL, so the
    executor is a process.
    """

    name = "pocketsphinx"
    sample_rate = 16_000
    word_times: WordTimes = "model"
    executor: Executor = "process"
    workers = 1
    max_batch_size = 1
    timeout_floor_s = 20.0

    def __init__(self, settings: Mapping[str, object] = _NO_SETTINGS) -> None:
        self._settings = dict(settings)
        self._decoder: Any = None
        self._frame_rate = 100

    def load(self) -> None:
        try:
            from pocketsphinx import Decoder  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise missing_package("pocketsphinx", "pocketsphinx") from error
        try:
            self._decoder = Decoder(**{"loglevel": "FATAL", "samprate": self.sample_rate, **self._settings})
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ModelLoadError(f"pocketsphinx rejected the settings {self._settings}: {error}") from error
        self._frame_rate = self._decoder.config["frate"]

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        return [self._recognise(item) for item in batch]

    def _recognise(self, item: AudioSegment) -> object:
        if len(item.samples) == 0:  # the decoder raises on an empty buffer
            return Transcript("")
        decoder = self._decoder
        pcm = (np.clip(item.samples, -1.0, 1.0) * 32767).astype("<i2").tobytes()
        try:
            decoder.reinit_feat()  # 0.1 ms; resets the noise estimate, so that results are independent
            decoder.start_utt()
            decoder.process_raw(pcm, no_search=False, full_utt=True)
            decoder.end_utt()
        except RuntimeError as error:
            failed = ModelFailed("pocketsphinx could not decode this segment")
            failed.__cause__ = error
            return failed
        hypothesis = decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            return Transcript("")
        return Transcript(hypothesis.hypstr, self._words())

    def _words(self) -> list[Word]:
        """Return the words of the segment that was decoded last."""
        words = []
        for part in self._decoder.seg():
            if part.word.startswith(("<", "[", "+")):  # sentence marks, silence, noise
                continue
            words.append(
                Word(
                    word=part.word.split("(")[0],  # "the(2)" is another pronunciation of "the"
                    start_time=part.start_frame / self._frame_rate,
                    end_time=(part.end_frame + 1) / self._frame_rate,
                    confidence=_probability(part.prob),
                )
            )
        return words


def _probability(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4) if math.isfinite(value) else 0.0
