"""A peer that was failed and sends on: its input is dropped in small turns, and both closes arrive."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from streamer.errors import ErrorCode, StreamerError
from streamer.transports.websocket import WebSocketTransport
from streamer.transports.websocket_protocol import DROPPING_TURN_S, WebSocketProtocol
from tests.transports.test_websocket_protocol import conversing
from tests.transports.wire_frames import BINARY, masked

UPGRADE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
UNMASKED = b"\x82\x01a"
FLOOD = masked(BINARY, bytes(4_096), b"abcd") * 1_024


class Reads:
    """Stands between the event loop and the protocol, and stores the time of each read."""

    def __init__(self, protocol: WebSocketProtocol) -> None:
        self._protocol = protocol
        self.times: list[float] = []

    def data_received(self, data: bytes) -> None:
        self.times.append(asyncio.get_running_loop().time())
        self._protocol.data_received(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)


class Server:
    """A server that fails its peer."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self.over = asyncio.Event()
        self.reads: Reads

    def open(self, request: web.Request) -> WebSocketTransport:
        self.transport = WebSocketTransport(request, (), 1 << 16, 60.0)
        return self.transport

    async def converse(self) -> None:
        self.transport.upgrade()
        with pytest.raises(StreamerError) as error:
            await self.transport.receive()
        assert error.value.code is ErrorCode.PROTOCOL_ERROR
        protocol, connection = self.transport._protocol, self.transport._connection
        assert protocol is not None
        assert connection is not None
        self.reads = Reads(protocol)
        connection._transport.set_protocol(self.reads)  # type: ignore[arg-type]
        self.failed.set()
        await self.transport.close(None)
        self.over.set()


async def test_a_failed_peer_that_sends_on_is_read_once_a_turn_and_both_closes_arrive() -> None:
    server = Server()
    async with conversing(server) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE.encode() + UNMASKED)
        await server.failed.wait()
        writer.write(FLOOD)
        await writer.drain()
        told = await reader.read()
        assert told.partition(b"\r\n\r\n")[2] == b"\x88\x10" + (1002).to_bytes(2, "big") + b"protocol_error"
        writer.close()
        await server.over.wait()  # the end of its input was read
    times = server.reads.times
    assert len(times) > 4
    # Half of a turn, because the loop rounds its times to milliseconds.
    assert all(after - before >= DROPPING_TURN_S / 2 for before, after in pairwise(times)), times
