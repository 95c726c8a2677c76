"""When the audio of a stream came: what latencies are counted from."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

INTERVAL_S = 0.1
"""Audio between two marks."""


class Arrivals:
    """Marks (frames received, when) of one stream, oldest first; whoever adds them forgets them too.

    A mark each INTERVAL_S of audio costs about 120 bytes, a few hundredths of the audio that is held for as long.
    """

    __slots__ = ("_forgotten", "_frames", "_times")

    def __init__(self) -> None:
        self._frames: deque[int] = deque()
        self._times: deque[float] = deque()
        self._forgotten = (0, 0.0)

    def __len__(self) -> int:
        return len(self._frames)

    def mark(self, frames: int, now: float) -> None:
        """So many frames are here."""
        if not self._frames:
            self._forgotten = (0, now)
        self._frames.append(frames)
        self._times.append(now)

    def forget(self, before: int) -> None:
        """Nobody will ask about frames before this one."""
        while len(self._frames) > 1 and self._frames[0] <= before:
            self._forgotten = (self._frames.popleft(), self._times.popleft())

    def of(self, frames: int) -> float | None:
        """When the audio up to this frame had come, between two marks by their distance; None before any audio.

        What was forgotten is said to have come with the last of it, what has no mark yet with the latest.
        """
        if not self._frames:
            return None
        after = bisect_left(self._frames, frames)
        if after == len(self._frames):
            return self._times[-1]
        first, began = (self._frames[after - 1], self._times[after - 1]) if after else self._forgotten
        share = max(0, frames - first) / (self._frames[after] - first)
        return began + share * (self._times[after] - began)
