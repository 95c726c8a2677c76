"""A WebSocket client that frames by hand, and so can frame wrongly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

FORMAT = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}
TEXT, BINARY, CONTINUATION, CLOSE, PING = 0x1, 0x2, 0x0, 0x8, 0x9
SMALL_BUFFER = 4_096
UPGRADE = (
    b"GET /api/v2/simple HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def header(opcode: int, length: int, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame header, masked with zeros; `length` is what it claims."""
    first = (fin << 7) | (rsv1 << 6) | opcode
    if length < 126:
        return struct.pack("!BB4x", first, 0x80 | length)
    if length < 2**16:
        return struct.pack("!BBH4x", first, 0xFE, length)
    return struct.pack("!BBQ4x", first, 0xFF, length)


def frame(opcode: int, payload: bytes = b"", **bits: bool) -> bytes:
    return header(opcode, len(payload), **bits) + payload


def text(message: dict[str, Any]) -> bytes:
    return frame(TEXT, json.dumps(message).encode())


class Raw:
    """One upgraded connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heard: Callable[[dict[str, Any]], None],
        ended: Callable[[str], None],
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._heard = heard
        self._ended = ended

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, data: bytes, times: int) -> None:
        """As much of it as the server takes, until it hangs up or stops reading for half a second."""
        try:
            for _ in range(times):
                self.writer.write(data)
                async with asyncio.timeout(0.5):
                    await self.writer.drain()
        except (TimeoutError, ConnectionError):
            pass

    @asynccontextmanager
    async def flooding(self, data: bytes, times: int) -> AsyncIterator[None]:
        """While the block runs, as much of it as the server takes."""

        async def write() -> None:
            with suppress(ConnectionError):
                for _ in range(times):
                    await self.send(data)

        flood = asyncio.create_task(write())
        try:
            yield
        finally:
            flood.cancel()
            await asyncio.wait([flood])

    async def next_frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(await self.reader.readexactly(size), "big")
        return first & 0xF, await self.reader.readexactly(length)

    async def next_event(self) -> dict[str, Any]:
        while True:
            opcode, payload = await self.next_frame()
            if opcode == TEXT:
                event: dict[str, Any] = json.loads(payload)
                self._heard(event)
                return event

    async def close_code(self, within_s: float = 10.0) -> int | None:
        """Read to the end; None where it came without a close frame. Raises TimeoutError."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    opcode, payload = await self.next_frame()
                    if opcode == TEXT:
                        self._heard(json.loads(payload))
                    if opcode == CLOSE:
                        code = int.from_bytes(payload[:2], "big")
                        self._ended("normal" if code == 1000 else payload[2:].decode() or str(code))
                        return code
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


@asynccontextmanager
async def raw(
    port: int,
    *,
    headers: bytes = b"",
    small_buffers: bool = False,
    heard: Callable[[dict[str, Any]], None] = lambda _: None,
    ended: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Raw]:
    """Upgraded to /api/v2/simple. `small_buffers`: what is not read is felt by the server at once. `heard`, `ended`:
    told of each event, and of the close by its code."""
    connection = socket.socket()
    if small_buffers:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=SMALL_BUFFER)
    try:
        writer.write(UPGRADE + headers + b"\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer
        yield Raw(reader, writer, heard, ended)
    finally:
        writer.transport.abort()


async def started(peer: Raw) -> None:
    """Begin a stream."""
    await peer.send(text({"type": "start", "format": FORMAT}))
    assert (await peer.next_event())["type"] == "started"
