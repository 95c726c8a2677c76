"""A minimal WebSocket client for load: frames are built once for all streams, with little work per message.

aiohttp's client would take more CPU for 400 streams than the server under test.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import struct
from collections.abc import Iterator
from time import monotonic
from typing import cast
from urllib.parse import urlsplit

from streamer.client.stream import codec_of
from streamer.client.transport import LOST, SUBPROTOCOL, ClientCodec
from streamer.loadtest.load_client import CONNECT_TIMEOUT_S, MAX_EVENT_BYTES, ConnectionRefused, LoadListener

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_NO_MASK = b"\0\0\0\0"
"""The mask key. RFC 6455 requires it to be unpredictable, to protect proxies. With zeros a frame is the same for every
stream and masking costs nothing; a server unmasks it as any other."""


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole message of a client in one frame."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + _NO_MASK + payload


class FrameParser:
    """Parses a server's bytes to whole messages: (opcode, payload). Raises ValueError for invalid frames."""

    def __init__(self) -> None:
        self._waiting = b""
        self._opcode = 0
        self._parts: list[bytes] = []

    def push(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        data = self._waiting + data if self._waiting else data
        at = 0
        while (header := _header(data, at)) is not None:
            first, start, size = header
            if start + size > len(data):
                break
            yield from self._frame(first, data[start : start + size])
            at = start + size
        self._waiting = data[at:]

    def _frame(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        final, opcode = first & 0x80, first & 0x0F
        if opcode >= CLOSE or (final and opcode):
            yield opcode, payload
            return
        self._opcode = opcode or self._opcode
        self._parts.append(payload)
        if sum(map(len, self._parts)) > MAX_EVENT_BYTES:
            raise ValueError("message too long")
        if final:
            yield self._opcode, b"".join(self._parts)
            self._parts.clear()


def _header(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return (first byte, start of the payload, its size), or None if more bytes are needed."""
    if len(data) < at + 2:
        return None
    first, size = data[at], data[at + 1]
    start = at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < start + width:
            return None
        size = int.from_bytes(data[start : start + width])
        start += width
    if size > MAX_EVENT_BYTES or first & 0x70:
        raise ValueError("unreadable WebSocket frame")
    return first, start, size


class WebSocketLoadConnection(asyncio.Protocol):
    """One connection. Writes never wait: messages that the server does not read in time show as latency."""

    def __init__(self, listener: LoadListener, request: bytes) -> None:
        self._listener = listener
        self._request = request
        self._frames = FrameParser()
        self._head: bytes | None = b""
        self._transport: asyncio.Transport
        self._closed: tuple[int, str] | None = None
        self.open_future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, frame: bytes) -> None:
        """Send a frame that was built in advance."""
        self._transport.write(frame)

    def send_control(self, message: str | bytes) -> None:
        """Send a control message: text over WebSocket."""
        data = message.encode() if isinstance(message, str) else message
        self._transport.write(frame(TEXT, data))

    def abort(self) -> None:
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        try:
            if self._head is not None:
                data = self._upgrade(data)
            for opcode, payload in self._frames.push(data):
                self._take(opcode, payload, now)
        except ValueError as error:
            self._closed = (LOST, str(error))
            self._transport.abort()

    def _upgrade(self, data: bytes) -> bytes:
        """Handle the answer to the handshake; return the bytes after it."""
        assert self._head is not None
        head, end, rest = (self._head + data).partition(b"\r\n\r\n")
        if not end:
            self._head = head
            return b""
        self._head = None
        status = head.split(b"\r\n", 1)[0].decode(errors="replace")
        if " 101 " not in status + " ":
            if not self.open_future.done():
                self.open_future.set_exception(ConnectionRefused(f"the server answered {status}"))
            self._transport.abort()
            return b""
        if not self.open_future.done():
            self.open_future.set_result(None)
        return rest

    def _take(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == TEXT:
            self._listener.on_frame(payload.decode(), now)
        elif opcode == BINARY:
            self._listener.on_frame(payload, now)
        elif opcode == PING:
            self._transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2]) if len(payload) >= 2 else 1005
            self._closed = (code, payload[2:].decode(errors="replace"))
            self._transport.write(frame(CLOSE, payload[:2]))

    def connection_lost(self, error: Exception | None) -> None:
        code, reason = self._closed or (LOST, str(error or ""))
        if not self.open_future.done():
            self.open_future.set_exception(
                ConnectionRefused(f"the connection ended in the handshake{reason and f' ({reason})'}")
            )
        self._listener.on_close(code, reason, monotonic())


class WebSocketLoadClient:
    """Opens connections to one address."""

    streams_per_process = 500

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        parts = urlsplit(url)
        secure = parts.scheme in {"wss", "https"}
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._head = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
        self._head += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        if self.new_codec().name == "v2":
            self._head += f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
        if token:
            self._head += f"Authorization: Bearer {token}\r\n"

    def new_codec(self) -> ClientCodec[str | bytes]:
        return codec_of(self._url)

    def frames(self, chunks: list[bytes]) -> list[bytes]:
        return [frame(BINARY, chunk) for chunk in chunks]

    async def connect(self, listener: LoadListener) -> WebSocketLoadConnection:
        """Return an open connection. Raises Refused."""
        key = base64.b64encode(os.urandom(16)).decode()
        request = f"{self._head}Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, line = await loop.create_connection(
                    lambda: WebSocketLoadConnection(listener, request), self._host, self._port, ssl=self._tls
                )
                try:
                    await line.open_future
                except BaseException:
                    transport.abort()
                    raise
        except TimeoutError:
            raise ConnectionRefused(f"no answer within {CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise ConnectionRefused(error.strerror or str(error)) from error
        return line
