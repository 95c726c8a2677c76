"""The conductor's clock: real on a server, moved by hand in tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that will come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds, and calls at a time of them."""

    def now(self) -> float: ...

    def cpu(self) -> float:
        """Seconds of the CPU that this thread has used, from any start."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back on the event loop at `when` or soon after; at once where it has passed, never before returning."""
        ...


class LoopClock:
    """The running event loop's timers under `time.monotonic` (a loop's own clock may be cached for a whole turn)."""

    now = staticmethod(time.monotonic)
    cpu = staticmethod(time.thread_time)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)
