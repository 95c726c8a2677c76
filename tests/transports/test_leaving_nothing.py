"""Connections that end are gone with their last reference: a crowd that leaves is no work for Python's collector."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest
from aiohttp import web
from websockets.server import ServerProtocol

from streamer.connection.connection import Connection
from streamer.transports.detachable import DetachableTransport
from streamer.transports.listener import HttpConnection
from streamer.transports.websocket import WebSocketTransport
from streamer.transports.websocket_protocol import WebSocketProtocol
from tests.faults.raw import frame, raw, started, text
from tests.transports.serving import SECOND, V2_STOP, serving

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
Farewell = Literal["stops", "hangs up", "is reset", "never starts"]


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("farewell", ["stops", "hangs up", "is reset", "never starts"])
async def test_a_connection_that_ends_leaves_nothing_for_the_collector(farewell: Farewell) -> None:
    async with serving() as app:
        with without_collector():
            before = {id(one) for one in of_connections()}  # of servers that other tests still hold
            await visit(app.port, farewell)
            while len(app.connections):
                await asyncio.sleep(0.01)
            for _ in range(100):
                if not (left := [one for one in of_connections() if id(one) not in before]):
                    break
                await asyncio.sleep(0.01)
            assert left == []


async def visit(port: int, farewell: Farewell) -> None:
    async with raw(port) as peer:
        if farewell == "never starts":
            return
        await started(peer)
        await peer.send(frame(2, SECOND))
        if farewell == "stops":
            await peer.send(text(V2_STOP))
            assert await peer.close_code() == 1000
        elif farewell == "is reset":
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def of_connections() -> list[object]:
    kinds = (
        Connection,
        DetachableTransport,
        HttpConnection,
        ServerProtocol,
        WebSocketProtocol,
        WebSocketTransport,
        web.BaseRequest,
        web.RequestHandler,
        web.StreamResponse,
    )
    return [one for one in gc.get_objects() if isinstance(one, kinds)]
