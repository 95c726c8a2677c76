"""Limits session starts and ends per loop iteration, so that bursts do not delay other connections."""

from __future__ import annotations

import asyncio
from collections import deque

MAX_PER_ITERATION = 50
"""A start or an end takes a few tenths of a millisecond, so an iteration stays near 10 ms."""


class LoopThrottle:
    """Admits a limited number of callers per iteration of the event loop, in the order of their arrival."""

    def __init__(self, per_turn: int = MAX_PER_ITERATION) -> None:
        self._per_turn = per_turn
        self._remaining = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._refill_scheduled = False

    async def acquire(self) -> None:
        """Wait for admission; returns at once without a burst."""
        if not self._refill_scheduled:
            self._refill_scheduled = True
            asyncio.get_running_loop().call_soon(self._refill)
        if self._remaining and not self._waiting:
            self._remaining -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _refill(self) -> None:
        """Admit waiting callers: a new iteration has started."""
        self._remaining = self._per_turn
        while self._waiting and self._remaining:
            waiter = self._waiting.popleft()
            if not waiter.done():  # otherwise the waiter was cancelled
                waiter.set_result(None)
                self._remaining -= 1
        self._refill_scheduled = bool(self._waiting)
        if self._refill_scheduled:
            asyncio.get_running_loop().call_soon(self._refill)
