"""One timer for the earliest of many deadlines."""

from __future__ import annotations

import math
from collections.abc import Callable

from streamer.clock import Clock, Timer


class DeadlineTimer:
    """Calls back at the earliest deadline that it was told of.

    Deadlines mostly move away while audio comes, so the timer is left alone then and whoever is called looks again: no
    timer is touched per message.
    """

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._on_due: Callable[[], None] | None = on_due
        self._timer: Timer | None = None
        self.due = math.inf
        """Monotonic seconds."""

    def bring_forward(self, due: float) -> None:
        """Call back at `due`, if that is sooner."""
        if due < self.due:
            if self._timer is not None:
                self._timer.cancel()
            self.due = due
            self._timer = self._clock.call_at(due, self._fire)

    def replace(self, when: float, callback: Callable[[], None]) -> None:
        """Call this at `when`, and nothing else any more."""
        self.cancel()
        self.due = -math.inf
        self._timer = self._clock.call_at(when, callback)

    def cancel(self) -> None:
        """Call back no more, and forget who is called: a ring of references would be left to Python's collector."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._on_due = None

    def _fire(self) -> None:
        self._timer, self.due = None, math.inf
        if self._on_due is not None:
            self._on_due()


def earliest(*deadlines: float | None) -> float:
    """Return the earliest of these times; infinity if none is set."""
    first = math.inf
    for deadline in deadlines:
        if deadline is not None and deadline < first:
            first = deadline
    return first
