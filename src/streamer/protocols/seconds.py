"""Positions to seconds: the one place where integers of the core become times of the wire."""

from __future__ import annotations

import math


class Clock:
    """Seconds of positions that count samples at `sample_rate`.

    Rounded to the microsecond, which keeps JSON short and is finer than a sample at every rate that is served: a
    reader gets the position back exactly with `round(time * sample_rate)`.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    def seconds(self, position: int) -> float:
        return round(position / self._sample_rate, 6)

    def maybe(self, position: int | None) -> float | None:
        return None if position is None else self.seconds(position)


def milliseconds(seconds: float) -> int:
    """A duration, rounded up: who comes back after it does not come too early."""
    return math.ceil(seconds * 1000)
