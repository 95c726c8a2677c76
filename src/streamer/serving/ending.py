"""Who tells a server to end, and how soon: signals, and a supervisor where there is one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from signal import SIGINT, SIGTERM, Signals
from time import monotonic
from types import FrameType, TracebackType
from typing import Self

Handler = Callable[[int, FrameType | None], object] | int | None


class Ending:
    """Hears signals while open. The first one asks for a drain, a second one means now.

    Where there is a supervisor, "now" is its word: a signal to the whole group of processes reaches each of them, and
    once more through it. Any number of signals to one process is one drain of that one.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self.asked = asyncio.Event()
        """The server is to see its sessions out and end."""
        self.lag = False
        """New sessions may come for a while: load balancers know nothing yet. (With Ctrl-C there are none.)"""
        self.now = asyncio.Event()
        """It is to end at once."""
        self._supervised = supervised
        self._signals = 0
        self._asked_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._before: dict[Signals, Handler] = {}

    @property
    def asked_s_ago(self) -> float:
        """How long it has been asked for. An overloaded loop hears of a signal seconds after it came."""
        return monotonic() - self._asked_at

    def drain(self, *, lag: bool) -> None:
        """Said again it changes nothing."""
        self._drain(lag=lag, asked_at=monotonic())

    def end(self) -> None:
        self.drain(lag=False)
        self.now.set()

    async def unless(self, sooner: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
        """Do the work; False where `sooner` came first, and the work was cancelled."""
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
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: it was not installed from Python, which cannot put it back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _drain(self, *, lag: bool, asked_at: float) -> None:
        if not self.asked.is_set():
            self.lag, self._asked_at = lag, asked_at
            self.asked.set()

    def _caught(self, number: int, frame: FrameType | None) -> None:
        """Between two instructions of whatever runs: only the time is noted here."""
        self._loop.call_soon_threadsafe(self._signalled, Signals(number), monotonic())

    def _signalled(self, number: Signals, when: float) -> None:
        self._signals += 1
        if self._signals > 1 and not self._supervised:
            self.end()
        else:
            self._drain(lag=number is SIGTERM, asked_at=when)
