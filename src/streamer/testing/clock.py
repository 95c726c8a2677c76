"""A clock that only a test advances."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class _ScheduledCall:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Monotonic seconds and timers; implements `clock.Clock`. Time changes only by `advance` and `jump`."""

    paused_s = 0.0

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._order = count()
        self._calls: list[tuple[float, int, _ScheduledCall]] = []
        self._cpu = 0.0
        self.cpu_step = 0.0
        """CPU seconds between two readings."""

    def cpu(self) -> float:
        self._cpu += self.cpu_step
        return self._cpu

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> _ScheduledCall:
        call = _ScheduledCall(callback)
        heapq.heappush(self._calls, (when, next(self._order), call))
        return call

    @property
    def timers(self) -> int:
        """Return the number of scheduled calls."""
        return sum(call.callback is not None for _, _, call in self._calls)

    def advance(self, seconds: float) -> None:
        """Advance the time; timers fire in order, each at its own time."""
        until = self._now + seconds
        while self._calls and self._calls[0][0] <= until:
            when, _, call = heapq.heappop(self._calls)
            self._now = max(self._now, when)
            if (callback := call.callback) is not None:
                call.cancel()
                callback()
        self._now = until

    def jump(self, seconds: float) -> None:
        """Advance the time of a process that does not run; then timers fire late, in order."""
        self._now += seconds
        self.advance(0.0)
