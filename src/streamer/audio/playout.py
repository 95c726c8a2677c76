"""A listener with a jitter buffer: how much silence it hears in audio that arrives late."""

from __future__ import annotations

JITTER_BUFFER_S = 0.04
"""Time by which a listener delays the first audio, so that later audio may be late by as much."""


class PlayoutBuffer:
    """Plays one line of audio as it arrives.

    The first audio sets the delay between the position of audio and its time, plus the jitter buffer. Audio that
    arrives later than that leaves a gap, after which the listener stays behind by as much.
    """

    __slots__ = ("_delay_s",)

    def __init__(self) -> None:
        self._delay_s: float | None = None

    def receive(self, position_s: float, now: float) -> float:
        """Take audio that begins at a position, in seconds, at the time `now`; return the seconds of the gap before it.

        The position of live audio is the time of its input.
        """
        delay_s = now - position_s
        if self._delay_s is None:
            self._delay_s = delay_s + JITTER_BUFFER_S
        gap_s = max(0.0, delay_s - self._delay_s)
        self._delay_s += gap_s
        return gap_s
