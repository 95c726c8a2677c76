"""Speech recognition by Moonshine on onnxruntime, made for live speech: `pip install streamer-audio[moonshine]`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.models.catalogue import MOONSHINE_FILES
from streamer.models.contract import AudioSegment, Model, WordTimes
from streamer.models.moonshine_network import RATE, Decoded, MoonshineNetwork
from streamer.models.weights import find_weights
from streamer.transcripts.transcript import Transcript

_LONGEST_S = 30
"""Longer pieces are cut: the network was trained on less, and its cost grows with the square."""
_SHORTEST_S = 15
_FRAME = RATE // 50


class Moonshine(Model):
    """Returns a Transcript without times of words. The cost grows with the length of the audio, so interims are cheap.

    `weights`: `tiny-en`, `base-en`, `owner/name` on the hub, or a directory with an encoder, a merged decoder and a
    tokenizer. `revision`: of the hub's repository. `threads`: of onnxruntime, per worker. `min_confidence`: less
    confident results become empty, because this network returns invented words for silence and noise.

    onnxruntime releases the GIL, so the executor is a thread. Segments of several sessions are decoded in one call.
    """

    name = "moonshine"
    sample_rate = RATE
    max_batch_size = 8
    max_batch_seconds = 40.0
    word_times: WordTimes = "estimated"
    timeout_floor_s = 20.0

    def __init__(
        self, weights: str = "tiny-en", revision: str | None = None, threads: int = 1, min_confidence: float = 0.35
    ) -> None:
        self._weights = weights
        self._revision = revision
        self._threads = threads
        self._min_confidence = min_confidence
        self._network: MoonshineNetwork | None = None

    def fetch(self) -> Path:
        return find_weights("moonshine", self._weights, MOONSHINE_FILES, self._revision)

    def load(self) -> None:
        self._network = MoonshineNetwork(self.fetch(), self._threads)

    def unload(self) -> None:
        self._network = None

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        assert self._network is not None, "load() comes first"
        pieces = [list(_cut(item.samples)) for item in batch]
        decoded = iter(self._network.decode([piece for parts in pieces for piece in parts]))
        return [self._transcript([next(decoded) for _ in parts]) for parts in pieces]

    def _transcript(self, parts: Sequence[Decoded]) -> Transcript:
        spoken = [part for part in parts if part.text and part.confidence >= self._min_confidence]
        if not spoken:
            return Transcript("")
        confidence = sum(part.confidence for part in spoken) / len(spoken)
        return Transcript(" ".join(part.text for part in spoken), confidence=round(confidence, 4))


def _cut(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield pieces of half a minute at most, cut where it is quietest; none of no samples."""
    while len(samples) > _LONGEST_S * RATE:
        frames = samples[_SHORTEST_S * RATE : _LONGEST_S * RATE].reshape(-1, _FRAME)
        at = _SHORTEST_S * RATE + int(np.square(frames).mean(1).argmin()) * _FRAME + _FRAME // 2
        yield samples[:at]
        samples = samples[at:]
    if len(samples):
        yield samples
