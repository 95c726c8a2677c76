"""Detector of sound that is louder than the noise around it: without a network, for machines, music and animals."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from streamer.vad.rows import SAMPLE_RATE, WINDOW, Detector, Floats
from streamer.vad.scorer import Row

ABOVE_FLOOR_DB = 6.0
"""Level over the noise floor whose probability is a half."""

_SILENT_DBFS = -65.0
"""Level below which everything is silence, however quiet the rest is."""
_FIRST_FLOOR_DBFS = -50.0
"""The floor of a stream that has just begun."""
_SLOPE_DB = 4.0
"""Level that takes the probability from a half to 0.73: between the two thresholds lie some 2.5 dB."""
_SMOOTHING = 0.7
_PARTS = 8
_PART_WINDOWS = round(4.0 * SAMPLE_RATE / WINDOW / _PARTS)
"""The floor is the least of four seconds, in eight parts: speech pauses within that time, noise does not."""
_BIAS_DB = 1.5
"""The least of many levels of one noise is below their mean."""


@dataclass(slots=True)
class Floor:
    """The noise floor of one stream by minimum statistics (Martin, 2001), in dBFS."""

    level: float = _FIRST_FLOOR_DBFS
    smoothed: float | None = None
    least: float = math.inf
    windows: int = 0
    parts: deque[float] = field(default_factory=lambda: deque([_FIRST_FLOOR_DBFS] * _PARTS, maxlen=_PARTS))

    def follow(self, power: float) -> float:
        """Take the power of the next window; the floor's level in dBFS."""
        before = self.smoothed
        self.smoothed = power if before is None else _SMOOTHING * before + (1 - _SMOOTHING) * power
        self.least = min(self.least, _dbfs(self.smoothed))
        self.windows += 1
        if self.windows == _PART_WINDOWS:
            self.parts.append(self.least)
            self.least, self.windows = math.inf, 0
        self.level = max(_SILENT_DBFS, min(self.least, *self.parts) + _BIAS_DB)
        return self.level


class EnergyDetector(Detector[Floor]):
    """Probability by how far a window's level (dBFS) is above a noise floor that is followed."""

    def begin(self) -> Floor:
        return Floor()

    def probabilities(self, state: Floor, windows: Floats) -> Floats:
        return np.array([_probability(power, state) for power in _powers(windows)], np.float32)

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        """See SpeechScorer. The powers of all streams' windows are taken in one go."""
        powers = iter(_powers(windows))
        states = (self._states[row] for row, number in zip(rows, counts, strict=True) for _ in range(number))
        return np.array([_probability(power, state) for power, state in zip(powers, states, strict=True)], np.float32)


def _powers(windows: Floats) -> list[float]:
    powers: list[float] = (np.einsum("ij,ij->i", windows, windows) / WINDOW).tolist()
    return powers


def _probability(power: float, floor: Floor) -> float:
    level, quiet = _dbfs(power), floor.follow(power)
    if level < _SILENT_DBFS:
        return 0.0
    return 1.0 / (1.0 + math.exp(min(50.0, (quiet + ABOVE_FLOOR_DB - level) / _SLOPE_DB)))


def _dbfs(power: float) -> float:
    return 10.0 * math.log10(max(power, 1e-12))
