"""The short way of a message: from aiohttp's parser into the session, without waking a task on the way.

A message that only adds audio costs some 4 us to deal with. To have it read by a task costs as much again: a future,
a turn of the loop, and a dozen coroutines to come down through. So while the reader waits, binary messages are handed
over as they are parsed; everything else, and all that is too much at once, is left to the reader.

aiohttp has no such door. This module alone looks behind its own, and where that has changed nobody takes the short way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import WSMessage, WSMsgType

T = TypeVar("T")

_BINARY = WSMsgType.BINARY
MOST = 32
"""Messages handed over in one go: after so many the loop's other work has its turn."""


class Shortcut:
    """Stands where aiohttp keeps the parser of one WebSocket, and looks at its queue after each piece of input."""

    def __init__(self, response: Any, protocol: Any) -> None:
        """Raises AttributeError where aiohttp is not built as it was."""
        self._response = response
        self._parser: Any = protocol._payload_parser
        self._queue: Any = response._reader
        self._messages: Any = self._queue._buffer
        self._take: Callable[[bytes], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None
        protocol._payload_parser = self

    def hand_over(self, take: Callable[[bytes], bool] | None) -> None:
        """Who takes messages from now on; see `runtime.transport.Transport`."""
        self._take = take

    async def something(self) -> None:
        """Until there is something for the reader: a message, or the end. Until then messages may go the short way."""
        if self._messages or self._queue.is_eof() or self._response.closed:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # What aiohttp asks of a parser ----------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Bytes came."""
        told: tuple[bool, bytes] = self._parser.feed_data(data)
        waiter = self._waiter
        if waiter is not None and not waiter.done() and (not self._hand_on() or self._queue.is_eof()):
            waiter.set_result(None)
        return told

    def feed_eof(self) -> None:
        """Nothing more comes."""
        self._parser.feed_eof()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hand_on(self) -> bool:
        """Hand over the messages that are there; False where something is left for the reader."""
        take, messages = self._take, self._messages
        for _ in range(MOST):
            if not messages:
                return True
            if take is None or messages[0][0].type is not _BINARY or self._response.closed:
                return False
            message: WSMessage = without_waiting(self._queue.read())
            if not take(message.data):
                return False
        return not messages


def without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("nothing had to be waited for, and it waits")
