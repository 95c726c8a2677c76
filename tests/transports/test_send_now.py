"""A frame that need not wait leaves at once over a WebSocket, in its order; every other is left to `send`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from streamer.transports.limits import Buffers
from streamer.transports.tls import Certificate
from streamer.transports.websocket import MAX_SEND_NOW_BYTES, WebSocketTransport
from tests.faults.raw import UPGRADE
from tests.transports.certificates import Authority
from tests.transports.test_websocket_protocol import conversing, dialled

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
    speaker = Speaker(["a" * MAX_SEND_NOW_BYTES, "b" * (MAX_SEND_NOW_BYTES + 1)])
    async with dialled(speaker) as socket:
        assert [len(await socket.receive_str()) for _ in range(2)] == [MAX_SEND_NOW_BYTES, MAX_SEND_NOW_BYTES + 1]
        await socket.close()
        await speaker.ended.wait()
    assert speaker.at_once == 1


class Talker:
    """A server that talks for as long as it need not wait."""

    def __init__(self) -> None:
        self.at_once = 0
        self.waits = asyncio.Event()

    def open(self, request: web.Request) -> WebSocketTransport:
        self.transport = WebSocketTransport(request, (), 1 << 16, 5.0)
        return self.transport

    async def converse(self) -> None:
        self.transport.upgrade()
        while self.at_once < 10_000 and self.transport.send_now(KIB):
            self.at_once += 1
            await asyncio.sleep(0)
        self.waits.set()
        await self.transport.receive()


async def test_over_tls_who_does_not_read_is_waited_for_after_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    talker = Talker()
    small = 16 * 1024
    async with conversing(talker, tls=Certificate(authority.settings).context, buffers=Buffers(small, small)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trust(), limit=1_024)
        writer.write(UPGRADE.replace(b"/api/v2/simple", b"/") + b"\r\n")
        await talker.waits.wait()
        writer.transport.abort()
        del reader
    # 64 KiB wait encrypted and the first that is not is the last; the kernel and the client's own end keep the rest.
    assert 64 <= talker.at_once < 8_192
