"""When a serving process that died is started again, and when that is given up. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often, and how soon."""

    most_in_a_row: int = 5
    """Deaths without a stable time between them; one more is a crash loop."""
    stable_s: float = 60.0
    """A process that served for so long ends a row of deaths."""
    first_pause_s: float = 0.2
    """Before the first restart of a row; each further one doubles it."""
    longest_pause_s: float = 10.0


class Restarts:
    """The deaths of one place's processes, one after the other."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self.in_a_row = 0

    def died(self, served_s: float) -> float | None:
        """A process is gone that served for so long (0: it never did). The pause before the next one in seconds; None
        where there should be no next one."""
        if served_s >= self._policy.stable_s:
            self.in_a_row = 0
        self.in_a_row += 1
        if self.in_a_row > self._policy.most_in_a_row:
            return None
        return min(self._policy.first_pause_s * 2.0 ** (self.in_a_row - 1), self._policy.longest_pause_s)
