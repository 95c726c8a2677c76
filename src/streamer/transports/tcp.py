"""TCP connections of protocols that are not spoken over HTTP. Their frames are not interpreted here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, cast

from streamer.connection.transport import FrameSink
from streamer.errors import ErrorCode, StreamerError
from streamer.session.memory import MemoryAccount, MemoryPool

FrameT = TypeVar("FrameT")

MAX_HELD_BYTES = 256 * 1024
"""Received bytes above which reading is paused while the reader is busy."""


class Framing(Protocol[FrameT]):
    """How frames are cut out of the bytes of one connection, and written."""

    @property
    def held_bytes(self) -> int:
        """Bytes that were fed and not returned."""
        ...

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        ...

    def next(self) -> FrameT | None:
        """Return the next frame, once all of it was fed. Raises StreamerError for bytes of no frame."""
        ...

    def encode(self, frame: FrameT) -> bytes: ...

    def end(self) -> FrameT | None:
        """Return the frame that stands for the end of input, if what was sent before is of use without the peer."""
        ...

    def farewell(self, error: StreamerError) -> FrameT | None:
        """Return the frame that reports an error before the close, if the protocol has one."""
        ...


class TcpTransport(asyncio.Protocol, Generic[FrameT]):
    """One connection; implements `connection.transport.Transport`."""

    name = "tcp"

    def __init__(self, peer: str, framing: Framing[FrameT], close_timeout_s: float, memory: MemoryPool) -> None:
        """Create a transport.

        `close_timeout_s`: for the peer to read the rest and to close its side. `memory`: for incomplete frames.
        """
        self.peer = peer
        self.control_frames_received = 0
        """Always 0: these protocols have no control frames."""
        self.has_peer_closed = False
        self.framing = framing
        self._close_timeout_s = close_timeout_s
        self._memory = MemoryAccount(memory)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unread: FrameT | None = None
        self._is_paused = False
        self._is_ended = False
        """No frame follows."""
        self._is_closing = False
        self._is_end_told = False
        """The frame that stands for the end was returned."""
        self._reader: asyncio.Future[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        """Set while the peer does not read."""
        self._lost: asyncio.Future[None] = self._loop.create_future()

    # Calls of the event loop --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not subclasses

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return  # read and dropped, because unread bytes would turn the close into a reset
        self.framing.feed(data)
        if self._reader is not None:
            self._wake()
        elif self.framing.held_bytes > MAX_HELD_BYTES and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Handle the end of input. Returns False: the event loop closes the connection."""
        self.has_peer_closed = True
        self._end()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        self._memory.update(0)
        self.resume_writing()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        if self._writing is None:
            self._writing = self._loop.create_future()

    def resume_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None and not writing.done():
            writing.set_result(None)

    # The reader's and the writer's side ---------------------------------------------------------

    def unread(self, frame: FrameT) -> None:
        """Return a frame to the front of the receive queue."""
        self._unread = frame

    def set_sink(self, ear: FrameSink[FrameT] | None) -> None:
        """Do nothing: all frames go through `receive`."""

    async def receive(self) -> FrameT | None:
        if self._unread is not None:
            frame, self._unread = self._unread, None
            return frame
        while True:
            try:
                received = None if self._is_closing else self.framing.next()
                if self._memory.update(self.framing.held_bytes) and received is None and not self._is_ended:
                    text = "no memory is left for the rest of a message (server.max_audio_bytes)"
                    raise StreamerError(text, code=ErrorCode.OVERLOADED)
            except StreamerError as error:
                await self.refuse(error)
                raise
            if received is not None or self._is_closing:
                return received
            if self._is_ended and not self._is_end_told:
                self._is_end_told = True
                return self.framing.end()
            if self._is_ended and self.framing.end() is None:
                return None
            self._resume_reading()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def send(self, frame: FrameT) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)
        if not self._write(frame):
            raise ConnectionResetError("the connection is closed")
        if self._writing is not None:
            await asyncio.shield(self._writing)

    def send_now(self, frame: FrameT) -> bool:
        return self._writing is None and self._write(frame)

    async def refuse(self, error: StreamerError) -> None:
        """Tell the peer of an error in its protocol, and close."""
        farewell = self.framing.farewell(error)
        if farewell is not None:
            self._write(farewell)
        await self.close(error.code)

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        is_first, self._is_closing = not self._is_closing, True
        self._end()
        if self._transport is None or self._lost.done():
            return
        if is_first and not self._transport.is_closing():
            self._transport.write_eof()
            self._resume_reading()
        await asyncio.wait([self._lost], timeout=self._close_timeout_s)
        self.abort()

    def abort(self) -> None:
        self._is_closing = True
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _write(self, frame: FrameT) -> bool:
        if self._is_closing or self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(self.framing.encode(frame))
        return True

    def _resume_reading(self) -> None:
        if self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()

    def _end(self) -> None:
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


NewFraming = Callable[[], Framing[FrameT]]
"""Returns the framing of a new connection."""
