"""Restart policy of a server process: the pause before a restart, and when to give up. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Pauses between restarts, and their number."""

    max_consecutive: int = 5
    """Consecutive deaths that are tolerated; one more is a crash loop."""
    stable_s: float = 60.0
    """Time of service in seconds after which the count of deaths starts again."""
    min_pause_s: float = 0.2
    """Pause before the first restart; it doubles with each further one."""
    max_pause_s: float = 10.0


class Restarts:
    """Counts the consecutive deaths of one process slot."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.consecutive = 0

    def next_pause(self, served_s: float) -> float | None:
        """Return the pause before the next restart in seconds; None to give up.

        `served_s`: how long the process served; 0 if it never did.
        """
        if served_s >= self._policy.stable_s:
            self.consecutive = 0
        self.consecutive += 1
        if self.consecutive > self._policy.max_consecutive:
            return None
        return min(self._policy.min_pause_s * 2.0 ** (self.consecutive - 1), self._policy.max_pause_s)
