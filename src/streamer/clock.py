"""Clocks of what waits: a server's, one that tests move by hand, and one that leaves pauses of the process out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

CHECK_INTERVAL_S = 0.5
"""Time between two looks at whether the event loop still runs."""
MAX_CHECK_INTERVAL_S = 1.0
"""A look that comes later than this after the one before follows a pause."""
LATE_S = 0.1
"""A call that comes later than this after it was due comes from a loop that has not read for a while."""
READ_S = 0.25
"""Time after a pause in which what has come meanwhile is read."""
LOGGED_PAUSE_S = 5.0
"""Shortest pause that is logged; a shorter one is a busy loop's, which `event_loop_lag_seconds` shows."""

log = logging.getLogger(__name__)


class Timer(Protocol):
    """A call that will come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds, and calls at a time of them."""

    @property
    def paused_s(self) -> float:
        """Seconds, so far, in which the event loop stood still. Never falls."""
        ...

    def now(self) -> float: ...

    def cpu(self) -> float:
        """Seconds of the CPU that this thread has used, from any start."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back on the event loop at `when` or soon after; at once where it has passed, never before returning."""
        ...


class LoopClock:
    """The running event loop's timers under `time.monotonic` (a loop's own clock may be cached for a whole turn)."""

    paused_s = 0.0
    now = staticmethod(time.monotonic)
    cpu = staticmethod(time.thread_time)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)


class PauseAwareClock:
    """Clock whose calls leave out the time in which the process stood still, between `start` and `stop`.

    A process stands still when it is stopped (SIGSTOP), its container is frozen, its virtual machine stalls, or a call
    holds its event loop. Messages that arrived meanwhile are still unread, and the timers run first. So a call
    of this clock comes later by the pauses since it was set, and a call that falls due within `READ_S` of a pause is
    put off until then, once. `now` is plain monotonic time: latencies are what clients saw.
    """

    def __init__(self, base: Clock | None = None) -> None:
        self.base = base or LoopClock()
        self.now, self.cpu = self.base.now, self.base.cpu
        self.paused_s = 0.0
        self.on_pause: Callable[[], None] | None = None
        """Called once a pause is noticed."""
        self._looked_at = 0.0
        self._read_by = 0.0
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin to look for pauses, on the running event loop."""
        if self._timer is None:
            self._looked_at = self.now()
            self._timer = self.base.call_at(self._looked_at + CHECK_INTERVAL_S, self._check_pause)

    def stop(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return _DeferredCall(self, when, callback)

    @property
    def is_catching_up(self) -> bool:
        """Whether what came during a pause may still be unread."""
        now = self.now()
        return now < self._read_by or (self._timer is not None and now - self._looked_at > MAX_CHECK_INTERVAL_S)

    def _check_pause(self) -> None:
        now = self.now()
        since, self._looked_at = now - self._looked_at, now
        self._timer = self.base.call_at(now + CHECK_INTERVAL_S, self._check_pause)
        if since <= MAX_CHECK_INTERVAL_S:
            return
        pause_s = since - CHECK_INTERVAL_S
        self.paused_s += pause_s
        self._read_by = now + READ_S
        if pause_s >= LOGGED_PAUSE_S:
            log.warning("the process was paused for %.1f s: all deadlines are extended by that time", pause_s)
        if self.on_pause is not None:
            self.on_pause()


class _DeferredCall:
    """Call of a `PauseAwareClock`."""

    def __init__(self, clock: PauseAwareClock, when: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = max(when, clock.now())
        self._callback = callback
        self._paused_s = clock.paused_s
        self._is_postponed = False
        self._timer = clock.base.call_at(when, self._due)

    def cancel(self) -> None:
        self._timer.cancel()
        self._callback = _no_callback  # it mostly holds whoever holds this call

    def _due(self) -> None:
        clock = self._clock
        now = clock.now()
        self._when += clock.paused_s - self._paused_s
        self._paused_s = clock.paused_s
        if self._when > now + LATE_S:  # a timer may come a little early
            self._is_postponed = False
            self._timer = clock.base.call_at(self._when, self._due)
        elif not self._is_postponed and (now - self._when > LATE_S or clock.is_catching_up):
            self._is_postponed = True
            self._timer = clock.base.call_at(now + READ_S, self._due)
        else:
            callback, self._callback = self._callback, _no_callback
            callback()


def _no_callback() -> None: ...


@asynccontextmanager
async def timeout(clock: Clock, seconds: float) -> AsyncIterator[asyncio.Timeout]:
    """Bound a block as `asyncio.timeout` does, by this clock. Raises TimeoutError."""
    async with asyncio.timeout(None) as scope:

        def expire() -> None:
            if not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())

        timer = clock.call_at(clock.now() + seconds, expire)
        try:
            yield scope
        finally:
            timer.cancel()
