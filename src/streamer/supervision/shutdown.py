"""Shutdown requests: signals, and commands of a supervisor."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from signal import SIGINT, SIGTERM, Signals
from time import monotonic
from types import FrameType, TracebackType
from typing import Self

SignalHandler = Callable[[int, FrameType | None], object] | int | None


class Shutdown:
    """Handles shutdown signals while open. The first one requests a drain, a second one an immediate end.

    Under a supervisor, only its command requests an immediate end: a signal to the process group reaches each process
    twice, directly and through the supervisor. So any number of signals is one drain.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self.drain_requested = asyncio.Event()
        """Set when a drain is requested."""
        self.grace_for_load_balancer = False
        """Accept new sessions for a while, until load balancers have noticed (not after Ctrl-C)."""
        self.immediate = asyncio.Event()
        """Set when an immediate end is requested."""
        self._supervised = supervised
        self._signal_count = 0
        self._requested_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._previous_handlers: dict[Signals, SignalHandler] = {}

    @property
    def seconds_since_request(self) -> float:
        """Seconds since the request. An overloaded loop handles a signal seconds after its arrival."""
        return monotonic() - self._requested_at

    def drain(self, *, lag: bool) -> None:
        """Request a drain. Idempotent."""
        self._drain(lag=lag, asked_at=monotonic())

    def end(self) -> None:
        self.drain(lag=False)
        self.immediate.set()

    async def run_until(self, sooner: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
        """Run the work; cancel it and return False if `sooner` is set first."""
        working, waiting = asyncio.create_task(work), asyncio.create_task(sooner.wait())
        try:
            await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            return False
        finally:
            for task in (working, waiting):
                task.cancel()
            await asyncio.gather(working, waiting, return_exceptions=True)

    def __enter__(self) -> Self:
        for number in (SIGTERM, SIGINT):
            self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous_handlers.items():
            # A handler that was not installed from Python is None and cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _drain(self, *, lag: bool, asked_at: float) -> None:
        if not self.drain_requested.is_set():
            self.grace_for_load_balancer, self._requested_at = lag, asked_at
            self.drain_requested.set()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Note the time of a signal. This runs between two instructions of other code, so it does nothing else."""
        self._loop.call_soon_threadsafe(self._handle_signal, Signals(number), monotonic())

    def _handle_signal(self, number: Signals, when: float) -> None:
        self._signal_count += 1
        if self._signal_count > 1 and not self._supervised:
            self.end()
        else:
            self._drain(lag=number is SIGTERM, asked_at=when)
