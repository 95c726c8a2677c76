"""The short way of a message: from its bytes into the session, without waking a task on the way.

A message that only adds audio costs some 4 us to deal with. To have it read by a task costs as much again: a future,
a turn of the loop, and a dozen coroutines to come down through. So while the reader waits, whole binary messages are
handed over at once, small ones together; everything else, and all that is too much at once, is left to aiohttp's parser
and to the reader.

aiohttp has no such door. This module alone looks behind its own, and where that has changed nobody takes the short way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

from aiohttp import WSMessage, WSMsgType

from streamer.runtime.transport import Ear
from streamer.transports.frames import Boundaries, Most, Unmask, audio
from streamer.transports.patience import Level, Patience

T = TypeVar("T")

_BINARY = WSMsgType.BINARY
MOST = 32
"""Messages handed over in one go: after so many the loop's other work has its turn."""
SMALL = 2
"""Messages of which more than so many are wanted are worth waiting for."""


_most = cache(Most)  # one for all: what many connections read is in the cache


class Shortcut:
    """Stands between the event loop and what aiohttp made of one WebSocket, and takes what it can of the input.

    aiohttp gets whole frames only. So its parser always stands between two, and some can be kept from it.
    """

    def __init__(self, response: Any, handler: Any, limit: int, patience: Patience | None = None) -> None:
        """`handler`: aiohttp's protocol of this connection. `limit`: bytes of the longest message.

        Raises AttributeError or ImportError where aiohttp is not built as it was, or the connection is gone.
        """
        from aiohttp._websocket.helpers import websocket_mask  # noqa: PLC0415 (it may be gone)

        self._unmask: Unmask = websocket_mask
        self._response = response
        self._handler = handler
        self._queue: Any = response._reader
        self._messages: Any = self._queue._buffer
        self._boundaries = Boundaries(limit)
        self._plain = True
        """No message is in pieces, and all keep to the rules."""
        self._most = _most(limit, 0)
        self._held: bytearray | None = None
        """The beginning of a frame."""
        self._ear: Ear[str | bytes] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waiting = False
        """The reader waits, and has not been woken."""
        self._patience = patience
        self._socket = handler.transport.get_extra_info("socket")
        self._level: Level | None = None
        self._patient = False
        handler.transport.set_protocol(self)

    def hand_over(self, ear: Ear[str | bytes] | None) -> None:
        """Who takes messages from now on; see `runtime.transport.Transport`."""
        self._ear = ear
        if self._level is not None:
            self._level.leave()
            self._level = None
        if ear is None:
            return
        self._most = _most(self._most.frame, ear.joined)
        if self._patience is not None:
            self._level = self._patience.enter(self._socket)

    async def something(self) -> None:
        """Until there is something for the reader: a message, or the end. Until then messages may go the short way."""
        if self._messages or self._queue.is_eof() or self._response.closed:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        self._waiting = True
        try:
            await self._waiter
        finally:
            self._waiter, self._waiting = None, False

    def _wake(self) -> None:
        self._waiting = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the event loop asks of a protocol -------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self._plain and self._boundaries.lost:
            self._leave(data, MOST)
            return
        there: bytes | bytearray = data
        if self._held is not None:
            self._held += data
            there = self._held
        end, handed = self._audio(there)
        if end == len(there):
            self._held = None
            return
        begin, boundaries = end, self._boundaries
        end = boundaries.last(there, begin)
        self._plain = not (boundaries.fragmented or boundaries.lost)
        if end > begin:
            self._leave(bytes(there[begin:end]), MOST - handed)
        if self._held is not None:
            del self._held[:end]
        elif end < len(data):
            self._held = bytearray(data[end:])

    def eof_received(self) -> bool | None:
        """Nothing more comes."""
        stays: bool | None = self._handler.eof_received()
        return stays

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self._handler.connection_lost(error)
        self._wake()

    def pause_writing(self) -> None:
        """The peer is slow."""
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._handler.resume_writing()

    def _audio(self, data: bytes | bytearray) -> tuple[int, int]:
        """Hand over the audio that `data` begins with; returns where it ends, and how many messages it was."""
        ear, most = self._ear, self._most
        if not self._waiting or ear is None or not self._plain:
            return 0, 0
        end = handed = wanted = 0
        while handed < MOST:
            messages, end = audio(data, end, MOST - handed if most.joined else 1, most, self._unmask)
            if not messages:
                break
            handed += len(messages)
            if not ear.take(b"".join(messages)):
                self._wake()
                break
            if end == len(data):
                if self._level is not None:
                    wanted = ear.wanted()
                break
        patient = wanted * handed > SMALL * end
        if self._level is not None and (patient or self._patient):
            self._level.set(wanted if patient else 1)
            self._patient = patient
        return end, handed

    def _leave(self, data: bytes, most: int) -> None:
        """Leave these bytes to aiohttp, and the messages in them to the reader, but for `most` to be handed over."""
        self._handler.data_received(data)
        if self._waiting and (not self._hand_on(most) or self._queue.is_eof()):
            self._wake()

    def _hand_on(self, most: int) -> bool:
        """Hand over messages that are there; False where something is left for the reader."""
        ear, messages = self._ear, self._messages
        for _ in range(most):
            if not messages:
                return True
            if ear is None or messages[0][0].type is not _BINARY:
                return False
            message: WSMessage = without_waiting(self._queue.read())
            if not ear.take(message.data):
                return False
        return not messages


def without_waiting(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("nothing had to be waited for, and it waits")
