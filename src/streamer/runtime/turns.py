"""Limits session starts and ends per loop iteration, so that bursts do not delay other connections."""

from __future__ import annotations

import asyncio
from collections import deque

PER_TURN = 50
"""A start or an end takes a few tenths of a millisecond, so an iteration stays near 10 ms."""


class Turns:
    """Admits a limited number of callers per iteration of the event loop, in the order of their arrival."""

    def __init__(self, per_turn: int = PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False

    async def take(self) -> None:
        """Wait for admission; returns at once without a burst."""
        if not self._renewing:
            self._renewing = True
            asyncio.get_running_loop().call_soon(self._renew)
        if self._left and not self._waiting:
            self._left -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        await place

    def _renew(self) -> None:
        """Admit waiting callers: a new iteration has started."""
        self._left = self._per_turn
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():  # otherwise the waiter was cancelled
                place.set_result(None)
                self._left -= 1
        self._renewing = bool(self._waiting)
        if self._renewing:
            asyncio.get_running_loop().call_soon(self._renew)
