"""A frame that need not wait leaves at once over a WebSocket, in its order; every other is left to `send`."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from streamer.transports.websocket import MAX_BYTES_AT_ONCE, WebSocketTransport
from tests.transports.test_websocket_protocol import dialled

KIB = "k" * 1024


class Speaker:
    """A server that says so many frames, each at once where it can be."""

    def __init__(self, frames: list[str]) -> None:
        self.at_once = 0
        self.said = asyncio.Event()
        self.ended = asyncio.Event()
        self._frames = frames

    def open(self, request: web.Request) -> WebSocketTransport:
        self.transport = WebSocketTransport(request, (), 1 << 16, 5.0)
        return self.transport

    async def converse(self) -> None:
        self.transport.upgrade()
        for frame in self._frames:
            if self.transport.send_now(frame):
                self.at_once += 1
            else:
                await self.transport.send(frame)
        self.said.set()
        assert await self.transport.receive() is None
        assert not self.transport.send_now("anybody?")
        with pytest.raises(ConnectionError):
            await self.transport.send("anybody?")
        self.ended.set()


async def test_frames_keep_their_order_whichever_way_they_leave() -> None:
    frames = [f"{number}{KIB * (number % 100)}" for number in range(1_000)]  # far more than a kernel keeps
    speaker = Speaker(frames)
    async with dialled(speaker) as socket:
        await asyncio.sleep(0.1)
        assert not speaker.said.is_set()
        assert [await socket.receive_str() for _ in frames] == frames
        await socket.close()
        await speaker.ended.wait()
    assert 0 < speaker.at_once < 90


async def test_what_is_longer_than_may_be_sent_at_once_is_left_to_send() -> None:
    speaker = Speaker(["a" * MAX_BYTES_AT_ONCE, "b" * (MAX_BYTES_AT_ONCE + 1)])
    async with dialled(speaker) as socket:
        assert [len(await socket.receive_str()) for _ in range(2)] == [MAX_BYTES_AT_ONCE, MAX_BYTES_AT_ONCE + 1]
        await socket.close()
        await speaker.ended.wait()
    assert speaker.at_once == 1
