"""The events of all calls as server-sent events, for those who listen to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from streamer.protocols.calls import CallEvent

MAX_UNREAD = 1_000
"""Events that wait for one listener; it is disconnected for one more."""
HEARTBEAT_S = 1.0
"""Seconds without an event after which a comment shows that the feed is alive, and a drain is noticed."""
_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class CallFeed:
    """Copies each event to all listeners. A listener that does not read is disconnected."""

    def __init__(self, is_over: Callable[[], bool]) -> None:
        """Create a feed. `is_over`: returns whether no more events will come."""
        self._is_over = is_over
        self._encoder = msgspec.json.Encoder()
        self._listeners: dict[asyncio.Queue[bytes | None], str] = {}

    def __len__(self) -> int:
        """Return the number of listeners."""
        return len(self._listeners)

    def publish(self, event: CallEvent) -> None:
        """Send an event to those who listen to its call."""
        if not self._listeners:
            return
        data = b"data: " + self._encoder.encode(event) + b"\n\n"
        for queue, call_id in list(self._listeners.items()):
            if call_id and call_id != event.call_id:
                continue
            if queue.qsize() < MAX_UNREAD:
                queue.put_nowait(data)
            else:
                del self._listeners[queue]
                queue.put_nowait(None)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer `GET /v1/calls`; `?call=ID` selects one call."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()
        await response.prepare(request)
        self._listeners[queue] = request.query.get("call", "")
        try:
            await response.write(b": listening\n\n")
            while (data := await self._next(queue)) is not None:
                await response.write(data)
        except ConnectionError:
            pass  # the listener has left
        finally:
            self._listeners.pop(queue, None)
        return response

    async def _next(self, queue: asyncio.Queue[bytes | None]) -> bytes | None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await queue.get()
        except TimeoutError:
            return None if self._is_over() else b":\n\n"
