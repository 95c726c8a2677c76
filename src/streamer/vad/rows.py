"""Common part of detectors: rows that open and close, and the windows of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.vad.scorer import Row

Floats = NDArray[np.float32]
StateT = TypeVar("StateT")

SAMPLE_RATE = 16_000
WINDOW = 512


class Detector(Generic[StateT]):
    """Base of detectors of one's own; see SpeechScorer for the contract. Override `begin` and `probabilities`.

    A window is 512 samples at 16 kHz. `probabilities` is called on the event loop, or in a thread of its own with
    `server.scoring = "thread"`: it should take far less than a millisecond for a window.
    """

    sample_rate = SAMPLE_RATE
    window = WINDOW

    def __init__(self) -> None:
        self._states: dict[Row, StateT] = {}
        self._numbers = count()

    def begin(self) -> StateT:
        """Return the state of a stream that begins."""
        raise NotImplementedError

    def probabilities(self, state: StateT, windows: Floats) -> Any:
        """Return the probability of speech in each of the stream's next windows: float32 [n, 512] in, [n] out.

        `state` may be changed in place.
        """
        raise NotImplementedError

    def open(self) -> Row:
        row = next(self._numbers)
        self._states[row] = self.begin()
        return row

    def close(self, row: Row) -> None:
        del self._states[row]

    def reset(self, row: Row) -> None:
        if row not in self._states:
            raise ValueError(f"row {row} is not open")
        self._states[row] = self.begin()

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        return [self._scored(row, samples.reshape(-1, WINDOW)) for row, samples in pending]

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        parts = [self._scored(row, part) for row, part in zip(rows, _split(counts, windows), strict=True)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _scored(self, row: Row, windows: Floats) -> Floats:
        scores = np.asarray(self.probabilities(self._states[row], windows), np.float32)
        if scores.shape != (len(windows),):
            raise ValueError(
                f"{type(self).__name__}.probabilities: expected {len(windows)} probabilities, got {scores.shape}"
            )
        return scores


def _split(counts: Sequence[int], windows: Floats) -> Iterator[Floats]:
    at = 0
    for number in counts:
        yield windows[at : at + number]
        at += number
