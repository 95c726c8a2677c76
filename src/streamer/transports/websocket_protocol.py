"""The server's end of one WebSocket, between the event loop and its reader: parses bytes to messages.

A message that only adds audio takes some 4 us. Reading it with a task would double that: a future, an iteration of the
loop, and a dozen coroutines. So while the reader waits, whole binary messages go directly to its ear, small ones
joined. All other frames are parsed by the Sans-I/O layer of `websockets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from time import thread_time
from typing import Any

from websockets.frames import Opcode

from streamer.runtime.budget import TOO_MUCH, WorkBudget
from streamer.runtime.transport import Ear
from streamer.session.memory import MemoryAccount
from streamer.transports.frames import (
    BINARY_MESSAGE,
    CONTROL,
    FrameError,
    FrameLimits,
    Unmask,
    continues,
    end_of_frame,
    is_close,
    read_binary_messages,
)
from streamer.transports.messages import MessageAssembler
from streamer.transports.patience import Level, Patience
from streamer.transports.wire import RATE_LIMITED_CLOSE, TRY_AGAIN_LATER_CLOSE

MAX_MESSAGES_PER_TURN = 32
"""Messages and control frames of one peer that are processed per iteration of the loop."""
CLOSING_TURN_S = 0.01
"""Seconds between two iterations for a peer whose close is awaited: its other input is not urgent."""
DROPPING_TURN_S = 0.002
"""Seconds between two reads of a failed peer. Its input is dropped: the peer may read the close only after sending."""
MAX_UNREAD_BYTES = 64 * 1024
"""Unread bytes above which the socket is not read."""
MAX_SMALL_BYTES = 64
"""Size up to which a data frame is charged like a control frame, because it carries almost no audio."""

_CLOSE = Opcode.CLOSE
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_limits = cache(FrameLimits)  # one for all connections, so that it stays in the cache


class WebSocketProtocol:
    """An asyncio protocol for one upgraded connection. Frames wait as bytes until the reader requests them."""

    def __init__(
        self,
        new_frames: Callable[[int], Any],
        transport: Any,
        max_message_bytes: int,
        unmask: Unmask,
        patience: Patience | None,
        budget: WorkBudget,
        memory: MemoryAccount,
    ) -> None:
        """Create the protocol. `new_frames`: creates a `websocket.ServerFrames`. `memory`: for incomplete messages."""
        self._new_frames = new_frames
        self._frames = new_frames(max_message_bytes)
        self._transport = transport
        self._unmask = unmask
        self._limits = _limits(max_message_bytes, 0)
        self._ear: Ear[str | bytes] | None = None
        self._asking = False
        """The reader waits for a message."""
        self._listening = False
        """The ear accepts messages."""
        self._fragmented = False
        """A message is incomplete."""
        self._unread: bytearray | None = None
        """Bytes that are not processed yet."""
        self._message: str | bytes | None = None
        """Message for the reader."""
        self._assembler = MessageAssembler()
        self._waiter: asyncio.Future[None] | None = None
        self._turn_is_due = False
        self._reading = True
        self._writing: asyncio.Future[None] | None = None
        """Set while the peer does not read."""
        self._closing = False
        """A close was sent. Only the peer's close is parsed."""
        self._ended = False
        """No message follows."""
        self._failure: tuple[int, str] | None = None
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._patience = patience
        self._level: Level | None = None
        self._budget = budget
        self._memory = memory
        self._throttled: asyncio.TimerHandle | None = None
        self.control_frames = 0
        """Number of pings and pongs received."""

    # The reader's side --------------------------------------------------------------------------

    def hand_over(self, ear: Ear[str | bytes] | None) -> None:
        """Pass binary messages to this ear from now on; see `runtime.transport.Transport`."""
        self._ear = ear
        if self._level is not None:
            self._level.leave()
            self._level = None
        if ear is None:
            return
        self._limits = _limits(self._limits.frame, ear.joined)
        if self._patience is not None and not self._ended:
            self._level = self._patience.enter(self._transport.get_extra_info("socket"))

    async def receive(self) -> str | bytes | None:
        """Return the next message that did not go to the ear, or None after the last.

        Raises FrameError if the peer violated the protocol or a limit; it has been told then.
        """
        self._listening = True
        while True:
            if self._message is None and self._unread is not None and not self._turn_is_due:
                self._asking = True
                self._work_through(MAX_MESSAGES_PER_TURN)
                self._regulate()
            if self._message is not None:
                message, self._message = self._message, None
                return message
            if self._failure is not None:
                raise FrameError(*self._failure)
            if self._ended:
                return None
            self._waiter = self._loop.create_future()
            self._asking = True
            try:
                await self._waiter
            finally:
                self._waiter, self._asking = None, False

    def _wake(self) -> None:
        self._asking = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Calls of the event loop --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self._ended:  # dropped, a little at a time. Not reading it at all would turn the close into a reset.
            self._throttled = self._throttled or self._loop.call_later(DROPPING_TURN_S, self._unthrottle)
            self._regulate()
            return
        left = MAX_MESSAGES_PER_TURN
        if self._unread is not None:
            self._unread += data
        else:
            end, delivered = self._deliver(data, 0, left)
            if end == len(data):
                return
            self._unread = bytearray(data[end:])
            left -= delivered
        if not self._turn_is_due:
            self._work_through(left)
        self._regulate()

    def eof_received(self) -> bool:
        """Handle the end of input. Returns False: the event loop closes the connection."""
        self._end()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Free everything."""
        self._end()
        self.hand_over(None)
        self.resume_writing()
        if not self._lost.done():
            self._lost.set_result(None)
        vars(self._frames).clear()  # it references itself, and would wait for Python's collector

    def pause_writing(self) -> None:
        """Handle a peer that reads too slowly."""
        if self._writing is None:
            self._writing = self._loop.create_future()

    def resume_writing(self) -> None:
        """Handle a peer that has caught up or disconnected."""
        writing, self._writing = self._writing, None
        if writing is not None and not writing.done():
            writing.set_result(None)
        if self._unread is not None and not self._ended:
            self._take_turn_soon()

    # In -----------------------------------------------------------------------------------------

    def _deliver(self, data: bytes | bytearray, at: int, count: int) -> tuple[int, int]:
        """Pass the binary messages from `data[at]` on to the ear, at most `count`; return their end and number."""
        ear, limits = self._ear, self._limits
        if not self._asking or not self._listening or ear is None or self._fragmented or self._closing:
            return at, 0
        begin, delivered, wanted = at, 0, 0
        while delivered < count:
            messages, at = read_binary_messages(
                data, at, count - delivered if limits.joined else 1, limits, self._unmask
            )
            if not messages:
                break
            delivered += len(messages)
            if not ear.take(messages[0] if len(messages) == 1 else b"".join(messages)):
                self._listening = False
                break
            if at == len(data):
                if self._level is not None:
                    wanted = ear.wanted()
                break
        if self._level is not None:
            self._level.adapt(wanted, delivered, at - begin)
        return at, delivered

    def _work_through(self, left: int) -> None:
        """Process at most `left` of the unread frames; the rest follows later, or when the reader asks."""
        unread = self._unread
        assert unread is not None
        at, spent_s, is_work = 0, 0.0, False
        while left > 0 and self._may_go_on():
            if is_work and at < len(unread) and unread[at] == BINARY_MESSAGE:
                is_work, spent_s = False, spent_s + thread_time()
            end, delivered = self._deliver(unread, at, left)
            if not delivered:
                try:
                    end = end_of_frame(unread, at, self._limits.frame)
                except FrameError as error:
                    self._fail(error.code, str(error))
                    break
                if not end:
                    break
                delivered = 1
                was_work, is_work = is_work, bool(unread[at] & CONTROL) or end - at <= MAX_SMALL_BYTES
                if is_work != was_work:
                    spent_s += thread_time() if was_work else -thread_time()
                self._take_frame(bytes(unread[at:end]))
            at = end
            left -= delivered
        if is_work or spent_s:
            self._pay(spent_s + thread_time() if is_work else spent_s)
        if self._ended or at == len(unread):
            self._unread = None
        else:
            del unread[:at]
            if left <= 0 and self._may_go_on():
                self._take_turn_soon()

    def _pay(self, spent_s: float) -> None:
        """Pause parsing for a peer above its work budget; end one that continues."""
        wait_s = self._budget.charge(spent_s, self._loop.time())
        if wait_s == 0.0 or self._ended:
            return
        if self._budget.is_exhausted:
            self._fail(RATE_LIMITED_CLOSE, TOO_MUCH)
        else:
            self._throttled = self._loop.call_later(wait_s, self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttled = None
        self._take_turn()

    def _may_go_on(self) -> bool:
        """Return whether the next frame may be parsed. Pings wait while the peer does not read."""
        if self._ended or self._writing is not None or self._throttled is not None:
            return False
        return self._closing or (self._asking and self._message is None)

    def _take_turn_soon(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_later(CLOSING_TURN_S if self._closing else 0.0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn_is_due = False
        if self._unread is not None and not self._ended:
            self._work_through(MAX_MESSAGES_PER_TURN)
        self._regulate()

    def _regulate(self) -> None:
        """Read the socket while its bytes are being processed."""
        waits = self._turn_is_due or not self._may_go_on()
        unread = len(self._unread) if self._unread is not None else 0
        if self._memory.update(unread + self._assembler.nbytes) and not waits:
            self._fail(TRY_AGAIN_LATER_CLOSE, "no memory is left for the rest of a message (server.max_audio_bytes)")
        full = self._throttled is not None if self._ended else waits and unread > MAX_UNREAD_BYTES
        if full == self._reading:
            self._reading = not full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _take_frame(self, frame: bytes) -> None:
        """Parse a whole frame, and answer it."""
        first = frame[0]
        if is_close(first):
            if self._fragmented and not self._closing:  # RFC 6455, 5.4, allows this and the library does not
                vars(self._frames).clear()
                self._frames = self._new_frames(self._limits.frame)
        elif self._closing:
            return
        self._fragmented = continues(first, self._fragmented)
        frames = self._frames
        frames.receive_data(frame)
        for event in frames.events_received():
            opcode = event.opcode
            if opcode in _DATA:
                self._take_piece(opcode, event.data, event.fin)
            elif opcode is _CLOSE:
                self._end()
            else:
                self.control_frames += 1
        self._flush()

    def _take_piece(self, opcode: Any, data: bytes, is_last: bool) -> None:
        try:
            message = self._assembler.add(opcode, data, is_last)
        except FrameError as error:
            self._fail(error.code, str(error))
            return
        if message is None:
            return
        if isinstance(message, bytes) and self._ear is not None and self._asking and self._listening:
            self._listening = self._ear.take(message)
        else:
            self._message = message
            self._wake()

    # Out ----------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether frames can be written."""
        return not self._lost.done() and not self._ended and not self._closing and not self._transport.is_closing()

    def write(self, message: str | bytes) -> None:
        """Write one message. Raises ConnectionError if the connection has ended or is being closed."""
        if not self.is_open:
            raise ConnectionResetError("the WebSocket is closed")
        if isinstance(message, str):
            self._frames.send_text(message.encode())
        else:
            self._frames.send_binary(message)
        self._flush()

    async def drain(self) -> None:
        """Wait while the peer reads too slowly. Raises ConnectionError if the connection ends first."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
            if self._lost.done():
                raise ConnectionResetError("the WebSocket is closed")

    async def close(self, code: int, reason: str) -> None:
        """Close, and wait until the connection has ended. Idempotent."""
        if self.is_open:
            self._closing = True
            self._frames.send_close(code, reason)
            self._flush()
            if self._unread is not None:
                self._take_turn_soon()
            self._regulate()
        if not self._lost.done():
            await asyncio.shield(self._lost)

    def _flush(self) -> None:
        frames = self._frames
        for data in frames.data_to_send():
            if data:
                self._transport.write(data)
            elif frames.failure is None:
                self._transport.close()  # both sides have closed
            elif self._transport.can_write_eof():
                self._transport.write_eof()  # further input is dropped until the peer disconnects
        if frames.failure is not None and self._failure is None:
            self._failure = frames.failure
            self._end()

    def _fail(self, code: int, message: str) -> None:
        self._frames.fail(code, message)
        self._flush()

    def _end(self) -> None:
        """Stop: no message follows."""
        self._ended = True
        self._unread = None
        self._memory.update(0)
        if self._throttled is not None:
            self._throttled.cancel()
            self._throttled = None
        self._wake()
        if not self._reading and not self._lost.done() and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
