"""Returns unused memory to the system after a peak of sessions."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

CROWD = 100
"""Smallest peak that is worth a trim: fewer sessions leave only some MiB."""
CALM = 10
"""Consecutive readings at half of the peak or less after which the peak is over."""
PERIOD_S = 1.0


class Ebb:
    """Detects the end of a peak from periodic readings of the number of sessions."""

    __slots__ = ("_calm", "_most")

    def __init__(self) -> None:
        self._most = 0  # peak since the last detected end
        self._calm = 0

    def gone(self, sessions: int) -> bool:
        """Return True once when the session count has stayed below half of its peak."""
        if self._most < CROWD or 2 * sessions > self._most:
            self._most, self._calm = max(self._most, sessions), 0
            return False
        self._calm += 1
        if self._calm < CALM:
            return False
        self._most, self._calm = sessions, 0
        return True


async def give_back(sessions: Callable[[], int], trim: Callable[[], None], period_s: float = PERIOD_S) -> None:
    """Trim the heap after each peak, until cancelled."""
    ebb = Ebb()
    while True:
        await asyncio.sleep(period_s)
        if ebb.gone(sessions()):
            await asyncio.to_thread(trim)


def trim_heap() -> None:
    """Have the C library return unused pages to the system.

    Otherwise it keeps free pages between used ones, which looks like a leak: docs/design/memory.md. Without glibc
    nothing happens.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
