"""Messages of a WebSocket: in order, bounded, and none is lost, whether they go to the sink or to the reader."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import pytest
from aiohttp import web

from streamer.testing import ManualClock
from streamer.transports.handshake import Upgrades
from streamer.transports.limits import Buffers, HandshakeLimits
from streamer.transports.listener import Listener
from streamer.transports.receive_coalescing import CHECK_INTERVAL_S, MAX_WAIT_S, ReceiveCoalescer
from streamer.transports.websocket import WebSocketFrame, WebSocketTransport
from streamer.transports.websocket_protocol import MAX_MESSAGES_PER_ITERATION
from tests.transports.wire_frames import BINARY, CONTINUATION, PING, TEXT, masked


class Peer:
    """A server that notes what it hears: frames handed over, and frames received."""

    def __init__(
        self,
        *,
        enough_after: int | None = None,
        joined: int = 0,
        wanted: int = 0,
        patience: ReceiveCoalescer | None = None,
    ) -> None:
        self.heard: list[WebSocketFrame] = []
        self.handed = 0
        self.in_a_row = self.most_in_a_row = 0
        self.over = asyncio.Event()
        self.transport: WebSocketTransport
        self._enough_after = enough_after
        self.coalesce_bytes = joined
        self._wanted = wanted
        self._patience = patience

    def open(self, request: web.Request) -> WebSocketTransport:
        self.transport = WebSocketTransport(request, (), 1 << 16, 5.0, self._patience)
        return self.transport

    async def converse(self) -> None:
        transport = self.transport
        transport.upgrade()
        transport.set_sink(self)
        while (frame := await transport.receive()) is not None:
            self.in_a_row = 0
            self.heard.append(frame)
            if frame == "well?":
                await transport.send("heard")
            if frame == "bye":
                await transport.close(None)
        self.over.set()

    def low_watermark_bytes(self) -> int:
        return self._wanted

    def feed_frame(self, frame: WebSocketFrame) -> bool:
        self.heard.append(frame)
        self.handed += 1
        self.in_a_row += 1
        self.most_in_a_row = max(self.most_in_a_row, self.in_a_row)
        asyncio.get_running_loop().call_soon(self._turn)
        return self._enough_after is None or self.handed % self._enough_after != 0

    def _turn(self) -> None:
        self.in_a_row = 0


class Conversation(Protocol):
    """What a server says and hears on one connection."""

    def open(self, request: web.Request) -> WebSocketTransport: ...

    async def converse(self) -> None: ...


@asynccontextmanager
async def conversing(
    peer: Conversation, *, tls: ssl.SSLContext | None = None, buffers: Buffers | None = None
) -> AsyncIterator[int]:
    """A listener on a port at whose `/` the peer converses."""
    upgrades = Upgrades()

    async def serve(request: web.Request) -> web.StreamResponse:
        return await upgrades.answer(peer.open(request), peer.converse())

    application = web.Application()
    application.router.add_get("/", serve)
    limits = HandshakeLimits(9, 5.0, lambda *_: None)
    listener = Listener(application, limits, tls=tls, buffers=buffers, shutdown_timeout_s=1.0)
    try:
        yield await listener.start("127.0.0.1", 0)
    finally:
        await listener.stop()
        await upgrades.stop(5.0)


@asynccontextmanager
async def dialled(peer: Conversation) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        conversing(peer) as port,
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://127.0.0.1:{port}/") as socket,
    ):
        yield socket


@pytest.mark.parametrize("enough_after", [None, 3])
async def test_frames_keep_their_order_whichever_way_they_go(enough_after: int | None) -> None:
    peer, chance, sent = Peer(enough_after=enough_after), random.Random(1), []
    async with dialled(peer) as socket:
        for number in range(600):
            if chance.random() < 0.2:
                await socket.send_str(str(number))
                sent.append(str(number))
            else:
                await socket.send_bytes(number.to_bytes(2, "big") * chance.randrange(1, 400))
                sent.append(number)
            if chance.random() < 0.1:
                await socket.ping()
                await socket.send_str("well?")
                sent.append("well?")
                assert await socket.receive_str() == "heard"  # the reader waits again
        await socket.close()
        await peer.over.wait()
    heard = [frame if isinstance(frame, str) else int.from_bytes(frame[:2], "big") for frame in peer.heard]
    assert heard == sent
    assert peer.handed > 0, "none went straight to the sink"


def said(chance: random.Random) -> tuple[list[WebSocketFrame], bytes]:
    """What a client may say, and its bytes: messages of all sizes, whole or in fragments, pings among them."""
    messages: list[WebSocketFrame] = []
    data = b""
    for number in range(chance.randrange(1, 12)):
        mask = chance.randbytes(4)
        payload = chance.randbytes(chance.choice((0, 1, 2, 125, 126, 640, 3_200, 65_536)))
        match chance.randrange(6):
            case 0:
                messages.append(str(number))
                data += masked(TEXT, str(number).encode(), mask)
            case 1:
                data += masked(PING, payload[:125], mask)
            case 2:
                at = chance.randrange(len(payload) + 1)
                messages.append(payload)
                data += masked(BINARY, payload[:at], mask, fin=False) + masked(PING, b"", mask)
                data += masked(CONTINUATION, payload[at:], mask)
            case _:
                messages.append(payload)
                data += masked(BINARY, payload, mask)
    return messages, data


def runs(frames: list[WebSocketFrame]) -> list[WebSocketFrame]:
    """Binary messages that follow each other as one."""
    joined: list[WebSocketFrame] = []
    for frame in frames:
        if joined and isinstance(frame, bytes) and isinstance(joined[-1], bytes):
            joined[-1] += frame
        else:
            joined.append(frame)
    return joined


@pytest.mark.parametrize("joined", [0, 1_000])
@pytest.mark.parametrize("enough_after", [None, 2])
async def test_messages_cut_anywhere_are_heard_whole_and_in_order(enough_after: int | None, joined: int) -> None:
    for seed in range(60):
        chance, peer = random.Random(seed), Peer(enough_after=enough_after, joined=joined)
        messages, data = said(chance)
        async with dialled(peer) as socket:
            await socket.send_str("first")
            while not peer.heard:
                await asyncio.sleep(0)
            protocol = peer.transport._protocol
            assert protocol is not None
            at = 0
            while at < len(data):
                size = chance.choice((1, 7, 700, 5_000, 200_000))
                protocol.data_received(data[at : at + size])
                at += size
                if chance.random() < 0.7:
                    await asyncio.sleep(0)
            await socket.close()
            await peer.over.wait()
        assert runs(peer.heard) == runs(["first", *messages]), f"seed {seed}"
        if not joined:
            assert peer.heard == ["first", *messages], f"seed {seed}"


async def test_in_a_crowd_small_messages_are_read_together_and_a_word_after_them_still_comes() -> None:
    clock = ManualClock()
    patience = ReceiveCoalescer(crowd=0, clock=clock)
    peer = Peer(joined=4_096, wanted=1_000, patience=patience)
    async with dialled(peer) as socket:
        await socket.send_bytes(bytes(256))
        while not patience.raised_count:
            await asyncio.sleep(0)
        for window in range(1, 21):
            for _ in range(4):
                await socket.send_bytes(bytes(256))
            while len(peer.heard) <= window:
                await asyncio.sleep(0)
        assert peer.heard[1:] == [bytes(4 * 256)] * 20
        await socket.send_str("bye")
        answer = asyncio.create_task(socket.receive())
        while not answer.done():
            clock.advance(MAX_WAIT_S + CHECK_INTERVAL_S)
            await asyncio.sleep(0)
        await peer.over.wait()
    assert peer.heard[-1] == "bye"
    assert (patience.raised_count, clock.timers) == (0, 0)


async def test_a_flood_gives_the_loop_its_turn() -> None:
    peer = Peer()
    async with dialled(peer) as socket:
        for _ in range(5_000):
            await socket.send_bytes(b"x")
        await socket.close()
        await peer.over.wait()
    assert len(peer.heard) == 5_000
    assert peer.most_in_a_row <= MAX_MESSAGES_PER_ITERATION


async def test_a_reader_that_waits_hears_of_every_end() -> None:
    said_bye, closed, vanished = Peer(), Peer(), Peer()
    async with dialled(said_bye) as socket:
        await socket.send_bytes(b"a")
        await socket.send_str("bye")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await said_bye.over.wait()
    async with dialled(closed) as socket:
        await socket.close()
        await closed.over.wait()
    async with dialled(vanished) as socket:
        await socket.send_bytes(b"a")
        assert socket._response.connection is not None
        assert socket._response.connection.transport is not None
        socket._response.connection.transport.abort()
        await vanished.over.wait()
