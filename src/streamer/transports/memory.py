"""An in-memory transport: two ends joined by bounded queues, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamer.connection.transport import FrameSink
from streamer.errors import ErrorCode

FrameT = TypeVar("FrameT")


class _Pipe(Generic[FrameT]):
    """One direction: at most `bound` frames, one producer, one consumer."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._frames: deque[FrameT] = deque()
        self._changed = asyncio.Event()
        self.ended = False

    async def put(self, frame: FrameT) -> None:
        while not self.offer(frame):
            if self.ended:
                raise ConnectionResetError("the other end is closed")
            await self._change()

    def offer(self, frame: FrameT) -> bool:
        """Put a frame if there is space; return whether there was."""
        if self.ended or len(self._frames) >= self._bound:
            return False
        self._frames.append(frame)
        self._changed.set()
        return True

    async def get(self) -> FrameT | None:
        """Return the next frame; None after the last."""
        while not self._frames:
            if self.ended:
                return None
            await self._change()
        self._changed.set()
        return self._frames.popleft()

    def end(self, *, drop: bool = False) -> None:
        self.ended = True
        if drop:
            self._frames.clear()
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """How the server closed."""

    code: ErrorCode | None
    reason: str
    aborted: bool = False


class MemoryTransport(Generic[FrameT]):
    """The server's end; implements `connection.transport.Transport`."""

    name = "memory"

    def __init__(self, incoming: _Pipe[FrameT], outgoing: _Pipe[FrameT], peer: str) -> None:
        self.peer = peer
        self.control_frames_received = 0
        self.has_peer_closed = False
        self.close_info: CloseInfo | None = None
        self._incoming = incoming
        self._outgoing = outgoing

    async def receive(self) -> FrameT | None:
        return await self._incoming.get()

    def set_sink(self, sink: FrameSink[FrameT] | None) -> None:
        """Do nothing: all frames go through `receive`."""

    async def send(self, frame: FrameT) -> None:
        await self._outgoing.put(frame)

    def send_now(self, frame: FrameT) -> bool:
        return self._outgoing.offer(frame)

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        self._end(CloseInfo(code, reason))

    def abort(self) -> None:
        self._end(CloseInfo(None, "", aborted=True))

    def _end(self, goodbye: CloseInfo) -> None:
        if self.close_info is None:
            self.close_info = goodbye
        self._outgoing.end(drop=goodbye.aborted)
        self._incoming.end(drop=True)


class MemoryClient(Generic[FrameT]):
    """The client's end."""

    def __init__(self, incoming: _Pipe[FrameT], outgoing: _Pipe[FrameT], server: MemoryTransport[FrameT]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._server = server

    @property
    def close_info(self) -> CloseInfo | None:
        """How the server closed, once it has."""
        return self._server.close_info

    async def send(self, frame: FrameT) -> None:
        """Send a frame. Raises ConnectionError if the server has closed."""
        await self._outgoing.put(frame)

    async def receive(self) -> FrameT | None:
        """Return the next frame; None when the server has closed and all frames were read."""
        return await self._incoming.get()

    def ping(self) -> None:
        """Send a control frame, as WebSocket clients do by themselves."""
        self._server.control_frames_received += 1

    def close(self) -> None:
        """Disconnect; sent frames still arrive."""
        self._server.has_peer_closed = True
        self._outgoing.end()
        self._incoming.end(drop=True)


def memory_pair(
    *, bound: int = 64, peer: str = "memory"
) -> tuple[MemoryClient[str | bytes], MemoryTransport[str | bytes]]:
    """Return the two ends of a connection for frames of text and bytes. `bound`: frames queued per direction."""
    up: _Pipe[str | bytes] = _Pipe(bound)
    down: _Pipe[str | bytes] = _Pipe(bound)
    server = MemoryTransport(up, down, peer)
    return MemoryClient(down, up, server), server
