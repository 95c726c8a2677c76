"""How much of the event loop's time one connection may take for anything but its audio."""

from __future__ import annotations

from dataclasses import dataclass

TOO_MUCH = "pings, control messages and empty frames took more of the server's time than a client may; send fewer"
"""What a client is told that is closed for it."""


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """Bounds of a `WorkBudget`, in seconds of the event loop's time."""

    share: float = 0.01
    """Seconds a second, in the long run."""
    burst_s: float = 0.05
    """Seconds that may be taken at once."""
    patience_s: float = 5.0
    """For how long a connection may be held back, without `burst_s` in between, before it is closed."""


class WorkBudget:
    """A token bucket of time spent, measured where it is spent: pings, empty frames, control messages.

    It counts time, not messages: a start costs fifty times a ping. Audio has bounds of its own. The time is the CPU's
    (`time.thread_time`), so a client does not pay for a machine that is busy with something else.
    """

    def __init__(self, limits: WorkLimits) -> None:
        self._limits = limits
        self._left_s = limits.burst_s
        self._charged_at = 0.0
        self._held_s = 0.0

    def charge(self, spent_s: float, now: float) -> float:
        """Count time spent; returns for how many seconds from `now` (monotonic) the peer should not be read."""
        limits = self._limits
        left = self._left_s + (now - self._charged_at) * limits.share
        if left >= limits.burst_s:
            left, self._held_s = limits.burst_s, 0.0
        self._charged_at = now
        self._left_s = left = left - spent_s
        if left >= 0:
            return 0.0
        wait_s = -left / limits.share
        self._held_s += wait_s
        return wait_s

    @property
    def is_exhausted(self) -> bool:
        """Whether the peer went on at its limit for so long that it should be closed."""
        return self._held_s > self._limits.patience_s
