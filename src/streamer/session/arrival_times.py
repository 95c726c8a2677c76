"""Arrival times of a stream's audio, from which latencies are computed."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

INTERVAL_S = 0.1
"""Seconds of audio between two marks."""
OUTPUT_INTERVAL_S = 0.01
"""The same for a stream that sends audio, whose delay is shorter."""


class ArrivalTimes:
    """Marks (frames received, time) of one stream, oldest first. The caller adds and forgets them.

    A mark per INTERVAL_S of audio takes about 120 bytes, a few hundredths of the audio itself.
    """

    __slots__ = ("_forgotten", "_frames", "_times")

    def __init__(self) -> None:
        self._frames: deque[int] = deque()
        self._times: deque[float] = deque()
        self._forgotten = (0, 0.0)

    def __len__(self) -> int:
        return len(self._frames)

    def mark(self, frames: int, now: float) -> None:
        """Store the arrival time of the first `frames` frames."""
        if not self._frames:
            self._forgotten = (0, now)
        self._frames.append(frames)
        self._times.append(now)

    def forget(self, before: int) -> None:
        """Forget marks before this frame."""
        while len(self._frames) > 1 and self._frames[0] <= before:
            self._forgotten = (self._frames.popleft(), self._times.popleft())

    def at(self, frames: int) -> float | None:
        """Return the arrival time of the audio up to this frame, interpolated between marks; None before any audio.

        Forgotten audio counts as arrived with the last forgotten mark, audio without a mark with the latest one.
        """
        if not self._frames:
            return None
        after = bisect_left(self._frames, frames)
        if after == len(self._frames):
            return self._times[-1]
        first, started_at = (self._frames[after - 1], self._times[after - 1]) if after else self._forgotten
        share = max(0, frames - first) / (self._frames[after] - first)
        return started_at + share * (self._times[after] - started_at)
