"""Buffer between the task that reads a connection and the program that iterates over its events."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class EventQueue(Generic[ItemT]):
    """Unread events in order, and their end.

    `put` and `end` never wait: the reading task stops while `is_full`, until `wait_for_room` returns.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._events: deque[ItemT] = deque()
        self._arrival = asyncio.Event()
        self._space_event = asyncio.Event()
        self._space_event.set()
        self._ended = False
        self._error: Exception | None = None

    @property
    def is_full(self) -> bool:
        """Whether the limit was reached, and fewer than half of the events have been read since."""
        return not self._space_event.is_set()

    def put(self, event: ItemT) -> None:
        self._events.append(event)
        self._arrival.set()
        if len(self._events) >= self._max_events:
            self._space_event.clear()

    def end(self, error: Exception | None) -> None:
        """Mark the end, with an error unless it is the normal end. Only the first call counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._arrival.set()

    async def get(self) -> ItemT | None:
        """Return the next event, or None after the last one. Raises the error of the end, if any."""
        while not self._events:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            self._arrival.clear()
            await self._arrival.wait()
        event = self._events.popleft()
        if len(self._events) <= self._max_events // 2:
            self._space_event.set()
        return event

    async def wait_for_room(self) -> None:
        await self._space_event.wait()
