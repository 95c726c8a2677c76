"""Restart policy of a server process: the pause before a restart, and when to give up. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Pauses between restarts, and their number."""

    most_in_a_row: int = 5
    """Consecutive deaths that are tolerated; one more is a crash loop."""
    stable_s: float = 60.0
    """Time of service in seconds after which the count of deaths starts again."""
    first_pause_s: float = 0.2
    """Pause before the first restart; it doubles with each further one."""
    longest_pause_s: float = 10.0


class Restarts:
    """Counts the consecutive deaths of one process slot."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.in_a_row = 0

    def died(self, served_s: float) -> float | None:
        """Return the pause before the next restart in seconds; None to give up.

        `served_s`: how long the process served; 0 if it never did.
        """
        if served_s >= self._policy.stable_s:
            self.in_a_row = 0
        self.in_a_row += 1
        if self.in_a_row > self._policy.most_in_a_row:
            return None
        return min(self._policy.first_pause_s * 2.0 ** (self.in_a_row - 1), self._policy.longest_pause_s)
