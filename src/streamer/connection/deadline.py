"""One timer for the earliest of many deadlines."""

from __future__ import annotations

import math
from collections.abc import Callable

from streamer.clock import Clock, Timer


class DeadlineTimer:
    """Calls back at the earliest of the deadlines that it was given.

    Deadlines mostly move to later times while audio arrives. The timer is not changed then, and its callback checks the
    deadlines again. So a message changes no timer.
    """

    def __init__(self, clock: Clock, on_due: Callable[[], None]) -> None:
        self._clock = clock
        self._on_due: Callable[[], None] | None = on_due
        self._timer: Timer | None = None
        self.due = math.inf
        """Time of the next callback in monotonic seconds."""

    def bring_forward(self, due: float) -> None:
        """Call back at `due`, if that is sooner than the current time."""
        if due < self.due:
            if self._timer is not None:
                self._timer.cancel()
            self.due = due
            self._timer = self._clock.call_at(due, self._fire)

    def replace(self, when: float, callback: Callable[[], None]) -> None:
        """Call `callback` at `when`, and nothing else from then on."""
        self.cancel()
        self.due = -math.inf
        self._timer = self._clock.call_at(when, callback)

    def cancel(self) -> None:
        """Cancel the timer and drop the callback, which would form a reference cycle."""
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
