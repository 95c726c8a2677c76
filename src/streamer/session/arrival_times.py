"""Arrival times of a stream's audio, from which latencies are computed."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from streamer.audio.format import AudioFormat

INTERVAL_S = 0.1
"""Seconds of audio between two marks."""
OUTPUT_INTERVAL_S = 0.01
"""The same for a stream that sends audio, whose delay is shorter."""
COUNT_BYTES = 64 * 1024
"""Bytes of audio after which the memory is counted again, if half a second of audio is more."""


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


class ReceiveMarks:
    """Tells what is due as the audio of a stream arrives: a mark of its time, an ack, a count of the memory."""

    __slots__ = ("_ack_bytes", "_mark_bytes", "_next_ack", "_next_arrival", "_next_count", "next", "times")

    def __init__(self, format: AudioFormat, *, has_output: bool) -> None:
        """Begin with a mark of the first frame. `has_output`: the stream sends audio."""
        interval_s = OUTPUT_INTERVAL_S if has_output else INTERVAL_S
        self.times = ArrivalTimes()
        self._ack_bytes = self._next_ack = max(1, format.sample_rate // 2) * format.frame_bytes
        self._mark_bytes = max(1, round(interval_s * format.sample_rate)) * format.frame_bytes
        self._next_count = COUNT_BYTES
        self._next_arrival = self.next = format.frame_bytes
        """Bytes received at which something is due."""

    def reach(self, received: int, frames: int, now: float) -> tuple[bool, bool]:
        """Store the arrival time if it is due; return whether an ack is due, and whether to count the memory.

        `received` and `frames`: bytes, and whole frames, of the stream so far.
        """
        if received >= self._next_arrival:
            self.times.mark(frames, now)
            self._next_arrival = received + self._mark_bytes
        if is_ack_due := received >= self._next_ack:
            self._next_ack = received + self._ack_bytes
        if is_count_due := is_ack_due or received >= self._next_count:
            self._next_count = received + COUNT_BYTES
        self.next = min(min(self._next_arrival, self._next_ack), self._next_count)  # noqa: PLW3301 (compiles)
        return is_ack_due, is_count_due
