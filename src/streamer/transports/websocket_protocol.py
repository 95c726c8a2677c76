"""The server's end of one WebSocket, between the event loop and its reader: parses bytes to messages.

A message that only adds audio takes some 4 us. Reading it with a task would double that: a future, an iteration of the
loop, and a dozen coroutines. So while the reader waits, whole binary messages go directly to its sink, small ones
joined. All other frames are parsed by the Sans-I/O layer of `websockets`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from time import thread_time
from typing import Any

from websockets.frames import Opcode

from streamer.connection.budget import TOO_MUCH_CONTROL_WORK, WorkBudget
from streamer.connection.transport import FrameSink
from streamer.session.memory import MemoryAccount
from streamer.transports.frames import (
    BINARY_MESSAGE,
    CONTROL,
    FrameError,
    FrameLimits,
    Unmask,
    end_of_frame,
    is_close,
    is_fragmented_after,
    read_binary_messages,
)
from streamer.transports.limits import CLOSING_TURN_S, DROPPING_TURN_S, MAX_SMALL_BYTES, MAX_UNREAD_BYTES
from streamer.transports.messages import MessageAssembler
from streamer.transports.receive_coalescing import ReceiveCoalescer, SocketWatermark
from streamer.transports.status_codes import RATE_LIMITED_CLOSE, TRY_AGAIN_LATER_CLOSE

MAX_MESSAGES_PER_ITERATION = 32
"""Messages and control frames of one peer that are processed per iteration of the loop."""

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
        coalescer: ReceiveCoalescer | None,
        budget: WorkBudget,
        memory: MemoryAccount,
    ) -> None:
        """Create the protocol. `new_frames`: creates a `websocket.ServerFrames`. `memory`: for incomplete messages."""
        self._new_frames = new_frames
        self._frames = new_frames(max_message_bytes)
        self._transport = transport
        self._unmask = unmask
        self._limits = _limits(max_message_bytes, 0)
        self._sink: FrameSink[str | bytes] | None = None
        self._is_reader_waiting = False
        """The reader waits for a message."""
        self._is_sink_ready = False
        """The sink accepts messages."""
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
        self._disconnected: asyncio.Future[None] = self._loop.create_future()
        self._coalescer = coalescer
        self._watermark: SocketWatermark | None = None
        self._budget = budget
        self._memory = memory
        self._throttle_timer: asyncio.TimerHandle | None = None
        self.control_frames = 0
        """Number of pings and pongs received."""
        self.peer_close_code: int | None = None
        """Code of the peer's close frame, 1005 for one without; None until it has come."""

    # The reader's side --------------------------------------------------------------------------

    def set_sink(self, sink: FrameSink[str | bytes] | None) -> None:
        """Pass binary messages to this sink from now on; see `connection.transport.Transport`."""
        self._sink = sink
        if self._watermark is not None:
            self._watermark.close()
            self._watermark = None
        if sink is None:
            return
        self._limits = _limits(self._limits.max_frame_bytes, sink.coalesce_bytes)
        if self._coalescer is not None and not self._ended:
            self._watermark = self._coalescer.add(self._transport.get_extra_info("socket"))

    async def receive(self) -> str | bytes | None:
        """Return the next message that did not go to the sink, or None after the last.

        Raises FrameError if the peer violated the protocol or a limit; it has been told then.
        """
        self._is_sink_ready = True
        while True:
            if self._message is None and self._unread is not None and not self._turn_is_due:
                self._is_reader_waiting = True
                self._parse_unread(MAX_MESSAGES_PER_ITERATION)
                self._pause_or_resume()
            if self._message is not None:
                message, self._message = self._message, None
                return message
            if self._failure is not None:
                raise FrameError(*self._failure)
            if self._ended:
                return None
            self._waiter = self._loop.create_future()
            self._is_reader_waiting = True
            try:
                await self._waiter
            finally:
                self._waiter, self._is_reader_waiting = None, False

    def _wake(self) -> None:
        self._is_reader_waiting = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Calls of the event loop --------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        if self._ended:  # dropped, a little at a time. Not reading it at all would turn the close into a reset.
            self._throttle_timer = self._throttle_timer or self._loop.call_later(DROPPING_TURN_S, self._unthrottle)
            self._pause_or_resume()
            return
        remaining = MAX_MESSAGES_PER_ITERATION
        if self._unread is not None:
            self._unread += data
        else:
            end, delivered = self._feed_sink(data, 0, remaining)
            if end == len(data):
                return
            self._unread = bytearray(data[end:])
            remaining -= delivered
        if not self._turn_is_due:
            self._parse_unread(remaining)
        self._pause_or_resume()

    def eof_received(self) -> bool:
        """Handle the end of input. Returns False: the event loop closes the connection."""
        self._end()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Free everything."""
        self._end()
        self.set_sink(None)
        self.resume_writing()
        if not self._disconnected.done():
            self._disconnected.set_result(None)
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
            self._schedule_turn()

    # In -----------------------------------------------------------------------------------------

    def _feed_sink(self, data: bytes | bytearray, at: int, count: int) -> tuple[int, int]:
        """Pass the binary messages from `data[at]` on to the sink, at most `count`; return their end and number."""
        sink, limits = self._sink, self._limits
        if not self._is_reader_waiting or not self._is_sink_ready or sink is None or self._fragmented or self._closing:
            return at, 0
        begin, delivered, watermark = at, 0, 0
        while delivered < count:
            messages, at = read_binary_messages(
                data, at, count - delivered if limits.max_coalesced_bytes else 1, limits, self._unmask
            )
            if not messages:
                break
            delivered += len(messages)
            if not sink.feed_frame(messages[0] if len(messages) == 1 else b"".join(messages)):
                self._is_sink_ready = False
                break
            if at == len(data):
                if self._watermark is not None:
                    watermark = sink.low_watermark_bytes()
                break
        if self._watermark is not None:
            self._watermark.adapt(watermark, delivered, at - begin)
        return at, delivered

    def _parse_unread(self, remaining: int) -> None:
        """Process at most `remaining` of the unread frames; the rest follows later, or when the reader asks."""
        unread = self._unread
        assert unread is not None
        at, spent_s, is_work = 0, 0.0, False
        while remaining > 0 and self._can_parse():
            if is_work and at < len(unread) and unread[at] == BINARY_MESSAGE:
                is_work, spent_s = False, spent_s + thread_time()
            end, delivered = self._feed_sink(unread, at, remaining)
            if not delivered:
                try:
                    end = end_of_frame(unread, at, self._limits.max_frame_bytes)
                except FrameError as error:
                    self._fail(error.code, str(error))
                    break
                if not end:
                    break
                delivered = 1
                was_work, is_work = is_work, bool(unread[at] & CONTROL) or end - at <= MAX_SMALL_BYTES
                if is_work != was_work:
                    spent_s += thread_time() if was_work else -thread_time()
                self._handle_frame(bytes(unread[at:end]))
            at = end
            remaining -= delivered
        if is_work or spent_s:
            self._charge_control_work(spent_s + thread_time() if is_work else spent_s)
        if self._ended or at == len(unread):
            self._unread = None
        else:
            del unread[:at]
            if remaining <= 0 and self._can_parse():
                self._schedule_turn()

    def _charge_control_work(self, spent_s: float) -> None:
        """Pause parsing for a peer above its work budget; end one that continues."""
        wait_s = self._budget.charge(spent_s, self._loop.time())
        if wait_s == 0.0 or self._ended:
            return
        if self._budget.is_exhausted:
            self._fail(RATE_LIMITED_CLOSE, TOO_MUCH_CONTROL_WORK)
        else:
            self._throttle_timer = self._loop.call_later(wait_s, self._unthrottle)

    def _unthrottle(self) -> None:
        self._throttle_timer = None
        self._run_turn()

    def _can_parse(self) -> bool:
        """Return whether the next frame may be parsed. Pings wait while the peer does not read."""
        if self._ended or self._writing is not None or self._throttle_timer is not None:
            return False
        return self._closing or (self._is_reader_waiting and self._message is None)

    def _schedule_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_later(CLOSING_TURN_S if self._closing else 0.0, self._run_turn)

    def _run_turn(self) -> None:
        self._turn_is_due = False
        if self._unread is not None and not self._ended:
            self._parse_unread(MAX_MESSAGES_PER_ITERATION)
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        """Read the socket while its bytes are being processed."""
        waits = self._turn_is_due or not self._can_parse()
        unread = len(self._unread) if self._unread is not None else 0
        if self._memory.update(unread + self._assembler.nbytes) and not waits:
            self._fail(TRY_AGAIN_LATER_CLOSE, "no memory is left for the rest of a message (server.max_audio_bytes)")
        full = self._throttle_timer is not None if self._ended else waits and unread > MAX_UNREAD_BYTES
        if full == self._reading:
            self._reading = not full
            if full:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _handle_frame(self, frame: bytes) -> None:
        """Parse a whole frame, and answer it."""
        first = frame[0]
        if is_close(first):
            if self._fragmented and not self._closing:  # RFC 6455, 5.4, allows this and the library does not
                vars(self._frames).clear()
                self._frames = self._new_frames(self._limits.max_frame_bytes)
        elif self._closing:
            return
        self._fragmented = is_fragmented_after(first, self._fragmented)
        frames = self._frames
        frames.receive_data(frame)
        for event in frames.events_received():
            opcode = event.opcode
            if opcode in _DATA:
                self._handle_fragment(opcode, event.data, event.fin)
            elif opcode is _CLOSE:
                self.peer_close_code = frames.close_rcvd.code if frames.close_rcvd is not None else None
                self._end()
            else:
                self.control_frames += 1
        self._flush()

    def _handle_fragment(self, opcode: Any, data: bytes, is_last: bool) -> None:
        try:
            message = self._assembler.add(opcode, data, is_last)
        except FrameError as error:
            self._fail(error.code, str(error))
            return
        if message is None:
            return
        if isinstance(message, bytes) and self._sink is not None and self._is_reader_waiting and self._is_sink_ready:
            self._is_sink_ready = self._sink.feed_frame(message)
        else:
            self._message = message
            self._wake()

    # Out ----------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether frames can be written."""
        return (
            not self._disconnected.done() and not self._ended and not self._closing and not self._transport.is_closing()
        )

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
            if self._disconnected.done():
                raise ConnectionResetError("the WebSocket is closed")

    async def close(self, code: int, reason: str) -> None:
        """Close, and wait until the connection has ended. Idempotent."""
        if self.is_open:
            self._closing = True
            self._frames.send_close(code, reason)
            self._flush()
            if self._unread is not None:
                self._schedule_turn()
            self._pause_or_resume()
        if not self._disconnected.done():
            await asyncio.shield(self._disconnected)

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
        if self._throttle_timer is not None:
            self._throttle_timer.cancel()
            self._throttle_timer = None
        self._wake()
        if not self._reading and not self._disconnected.done() and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
