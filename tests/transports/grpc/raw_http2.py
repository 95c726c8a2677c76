"""An HTTP/2 client that frames by hand (RFC 9113), and so can leave out what a gRPC client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE_S = 20.0
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
MAX_CONCURRENT_STREAMS = 0x3
"""A setting."""
REFUSED_STREAM, CANCEL = 0x7, 0x8
"""Error codes."""


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0x0
    HEADERS = 0x1
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: Kind, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(path: str) -> bytes:
    """A gRPC request's, as literals that no table keeps (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    words = [word.encode() for pair in fields.items() for word in pair]
    literals = [bytes([len(word)]) + word for word in words]
    return b"".join(b"\0" + name + value for name, value in zip(literals[::2], literals[1::2], strict=True))


@dataclass
class Connection:
    """A connection to a gRPC server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answers_pings: bool = True
    frames: list[Frame] = field(default_factory=list)
    _next_stream: int = 1

    def greet(self) -> None:
        """Say the preface, and agree to whatever the server sets."""
        self.writer.write(PREFACE + frame(Kind.SETTINGS) + frame(Kind.SETTINGS, flags=ACK))

    def call(self, path: str) -> int:
        """Begin a call, and say no more; return its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.writer.write(frame(Kind.HEADERS, headers(path), flags=END_HEADERS, stream=stream))
        return stream

    async def next(self) -> Frame | None:
        """The next frame; None at the end."""
        try:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        came = Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
        if came.kind == Kind.PING and not came.flags & ACK and self.answers_pings:
            self.writer.write(frame(Kind.PING, payload, flags=ACK))
        self.frames.append(came)
        return came

    async def until(self, kind: Kind, stream: int) -> Frame:
        """The first frame of this kind and stream, when it has come."""
        for came in self.frames:
            if (came.kind, came.stream) == (kind, stream):
                return came
        async with asyncio.timeout(PATIENCE_S):
            while (next_one := await self.next()) is not None:
                if (next_one.kind, next_one.stream) == (kind, stream):
                    return next_one
        raise AssertionError(f"the connection ended before {kind.name}; {self.frames}")

    async def is_dropped(self) -> None:
        """Wait until the server has closed it. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.next() is not None:
                pass

    async def setting(self, name: int) -> int | None:
        """What the server sets."""
        payload = (await self.until(Kind.SETTINGS, 0)).payload
        pairs = [(payload[at : at + 2], payload[at + 2 : at + 6]) for at in range(0, len(payload), 6)]
        return {int.from_bytes(key, "big"): int.from_bytes(value, "big") for key, value in pairs}.get(name)


@asynccontextmanager
async def connected(port: int | None, *, answers_pings: bool = True) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer, answers_pings)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
