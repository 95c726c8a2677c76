"""Returns unused memory to the system after a peak of sessions."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable

MIN_PEAK_SESSIONS = 100
"""Smallest peak that is worth a trim: fewer sessions leave only some MiB."""
CALM_READINGS = 10
"""Consecutive readings at half of the peak or less after which the peak is over."""
PERIOD_S = 1.0


class PeakDetector:
    """Detects the end of a peak from periodic readings of the number of sessions."""

    __slots__ = ("_calm_readings", "_peak")

    def __init__(self) -> None:
        self._peak = 0  # peak since the last detected end
        self._calm_readings = 0

    def is_peak_over(self, sessions: int) -> bool:
        """Return True once when the session count has stayed below half of its peak."""
        if self._peak < MIN_PEAK_SESSIONS or 2 * sessions > self._peak:
            self._peak, self._calm_readings = max(self._peak, sessions), 0
            return False
        self._calm_readings += 1
        if self._calm_readings < CALM_READINGS:
            return False
        self._peak, self._calm_readings = sessions, 0
        return True


async def trim_after_peaks(sessions: Callable[[], int], trim: Callable[[], None], period_s: float = PERIOD_S) -> None:
    """Trim the heap after each peak, until cancelled."""
    detector = PeakDetector()
    while True:
        await asyncio.sleep(period_s)
        if detector.is_peak_over(sessions()):
            await asyncio.to_thread(trim)


def trim_heap() -> None:
    """Have the C library return unused pages to the system.

    Otherwise it keeps free pages between used ones, which looks like a leak: docs/design/memory.md. Without glibc
    nothing happens.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
