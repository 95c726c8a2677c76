"""Who tells a server to end, and how soon: signals, and a supervisor where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from signal import SIGINT, SIGTERM, Signals
from types import TracebackType
from typing import Self


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

    def drain(self, *, lag: bool) -> None:
        """Said again it changes nothing."""
        if not self.asked.is_set():
            self.lag = lag
            self.asked.set()

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
        for signal in (SIGTERM, SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal, self._signalled, signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for signal in (SIGTERM, SIGINT):
            asyncio.get_running_loop().remove_signal_handler(signal)

    def _signalled(self, signal: Signals) -> None:
        self._signals += 1
        if self._signals > 1 and not self._supervised:
            self.end()
        else:
            self.drain(lag=signal is SIGTERM)
