"""A crowd comes or goes at once: it passes a few at a time, so that the loop comes round to everybody else."""

from __future__ import annotations

import asyncio
from collections import deque

PER_TURN = 50
"""Beginnings and ends of sessions cost a few tenths of a millisecond each: a turn of the loop stays near 10 ms."""


class Turns:
    """A gate that lets so many through in each turn of the event loop, in the order in which they came."""

    def __init__(self, per_turn: int = PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False

    async def take(self) -> None:
        """Pass; at once where there is no crowd."""
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
        """The loop has come round."""
        self._left = self._per_turn
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():  # else whoever waited was cancelled
                place.set_result(None)
                self._left -= 1
        self._renewing = bool(self._waiting)
        if self._renewing:
            asyncio.get_running_loop().call_soon(self._renew)
