"""A connection that is taken over stays as its new owner wants it."""

from __future__ import annotations

import asyncio
from typing import cast

from streamer.transports.detachable import DetachableTransport


class Host(asyncio.Protocol):
    """Notes the transport of the one connection that comes."""

    def __init__(self) -> None:
        self.transport: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport.set_result(cast("asyncio.Transport", transport))


class Full(asyncio.Protocol):
    """Has enough after the first bytes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.transport.pause_reading()


async def test_a_protocol_that_has_enough_of_what_came_early_is_given_no_more() -> None:
    host = Host()
    server = await asyncio.get_running_loop().create_server(lambda: host, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    transport = await host.transport
    transport.pause_reading()  # whoever had the connection until now has read enough
    protocol = DetachableTransport(transport, lambda: b"early").detach(Full, b"yours")
    assert await reader.readexactly(5) == b"yours"
    assert protocol.received == b"early"
    assert not transport.is_reading()
    writer.transport.abort()
    transport.abort()
    server.close()
    await server.wait_closed()
