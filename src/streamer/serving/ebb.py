"""After a crowd has gone, the memory that it took goes back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

CROWD = 100
"""Sessions that are worth it: fewer leave some MiB."""
CALM = 10
"""Readings in a row that find at most half of a crowd left: it has gone, and is not just coming again."""
PERIOD_S = 1.0


class Ebb:
    """Knows when a crowd has gone, from how many sessions there are now and then."""

    __slots__ = ("_calm", "_most")

    def __init__(self) -> None:
        self._most = 0  # since it was last said that one has gone
        self._calm = 0

    def gone(self, sessions: int) -> bool:
        """Whether one has, by this reading; said once."""
        if self._most < CROWD or 2 * sessions > self._most:
            self._most, self._calm = max(self._most, sessions), 0
            return False
        self._calm += 1
        if self._calm < CALM:
            return False
        self._most, self._calm = sessions, 0
        return True


async def give_back(sessions: Callable[[], int], trim: Callable[[], None], period_s: float = PERIOD_S) -> None:
    """Trim after each crowd, until cancelled."""
    ebb = Ebb()
    while True:
        await asyncio.sleep(period_s)
        if ebb.gone(sessions()):
            await asyncio.to_thread(trim)


def trim_heap() -> None:
    """Have the C library hand unused pages back. Between what is in use it keeps them for ever otherwise, which looks
    like a leak: docs/design/memory.md. Nothing happens where there is no glibc."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
