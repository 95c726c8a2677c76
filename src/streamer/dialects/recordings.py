"""Recordings by POST: one stream over one request, for dialects whose services transcribe files."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from aiohttp import web

from streamer.access import Authenticator, Carriers, Identity
from streamer.access.factory import apply_limits
from streamer.connection.meter import Meter
from streamer.connection.transport import FrameSink
from streamer.dialects.dialect import DialectContext
from streamer.errors import ErrorCode, StreamerError, brief
from streamer.protocols.recording import RecordingCodec, RecordingFrame, size_of
from streamer.session.events import ErrorEvent, Event, Finished, FinishReason, Mode, Segment
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.observer import HandshakeInfo, Subsystem
from streamer.transports.handshake import IGNORED_HEADER
from streamer.transports.http import UNEXPECTED
from streamer.transports.listener import HttpConnection
from streamer.transports.spool import Spool

_READ_BYTES = 64 * 1024
_MEMORY_BYTES = 1024 * 1024
"""Bytes of a temporary file that stay in memory."""

log = logging.getLogger(__name__)

Refusal = Callable[[StreamerError], web.Response]
Body = Callable[[int], Awaitable[bytes]]
"""Returns at most this many bytes of a recording; none at its end."""


class RecordingAnswer(ABC):
    """Makes the answer from the events of a stream. An error at any time is the whole answer.

    `error`: the first one. `is_complete`: the stream has ended and nothing is missing.
    """

    error: StreamerError | None = None
    is_complete = False

    async def add(self, event: Event) -> bool:
        """Add an event. Return False if no more events are wanted."""
        if isinstance(event, Segment):
            await self.add_final(event)
        elif isinstance(event, ErrorEvent):
            self.fail(StreamerError(event.message, code=event.code), event.retry_after_s)
        elif isinstance(event, Finished):
            self.is_complete = event.reason is FinishReason.STOPPED
            if not self.is_complete:
                self.fail(StreamerError("the server is shutting down: send the file again", code=ErrorCode.DRAINING))
        return self.error is None

    def fail(self, error: StreamerError, retry_after_s: float | None = None) -> None:
        """Make an error the answer, unless there is one."""
        if self.error is None:
            error.retry_after_s = retry_after_s
            self.error = error

    @abstractmethod
    async def add_final(self, segment: Segment) -> None:
        """Add a final."""

    @abstractmethod
    async def finish(self, summary: Summary) -> web.StreamResponse:
        """Return the answer after the last event of a complete stream."""

    @abstractmethod
    async def refuse(self, error: StreamerError) -> web.StreamResponse:
        """Return the answer for an error, which may come after a part of the answer was sent."""


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """A recording that is to be transcribed. `ignored`: names of parameters that have no effect.

    `model`: name of one of several models; empty for the default one.
    """

    start: Start
    body: Body
    answer: RecordingAnswer
    ignored: tuple[str, ...] = ()
    model: str = ""


class RecordingTransport:
    """One request; a `connection.transport.Transport`."""

    name = "http"
    control_frames_received = 0
    has_peer_closed = False

    def __init__(self, request: web.Request, spool: BinaryIO, read_bytes: int) -> None:
        """Create a transport. `spool`: for an MP4 whose index is at its end. `read_bytes`: of the body at a time."""
        self.peer = request.remote or "unknown"
        self.spool = spool
        self.recording: RecordingRequest | None = None
        """Set before the stream begins."""
        self._request = request
        self._read_bytes = read_bytes
        self._is_stopped = self._is_closed = False
        self._gone = asyncio.Event()

    def gone(self) -> None:
        """Note that the connection has ended."""
        self._gone.set()

    async def receive(self) -> RecordingFrame | None:
        if not self._is_stopped and not self._is_closed:
            await asyncio.sleep(0)  # a body that is here already would never let others run
            assert self.recording is not None
            try:
                data = await self.recording.body(self._read_bytes)
            except (ConnectionError, web.RequestPayloadError, asyncio.IncompleteReadError):
                return None
            self._is_stopped = not data
            return data
        await self._gone.wait()
        return None

    def set_sink(self, ear: FrameSink[RecordingFrame] | None) -> None:
        """Everything goes through `receive`."""

    async def send(self, frame: RecordingFrame) -> None:
        """Add an event to the answer."""
        assert not isinstance(frame, bytes)
        assert self.recording is not None
        if self._gone.is_set():
            raise ConnectionResetError("the client is gone")
        if not await self.recording.answer.add(frame):
            self._is_closed = True  # nothing that follows changes the answer
            raise ConnectionResetError("the answer is complete")

    def send_now(self, frame: RecordingFrame) -> bool:
        return False

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        self._is_closed = True
        self._gone.set()

    def abort(self) -> None:
        """Release the request; a peer that still sends or reads is cut off."""
        if not self._is_closed and self._request.transport is not None:
            self._request.transport.abort()
        self._gone.set()


class RecordingHandler:
    """The aiohttp handler of POST to one path."""

    def __init__(
        self,
        context: DialectContext,
        name: str,
        read: Callable[[web.Request, ExitStack], Awaitable[RecordingRequest]],
        *,
        carriers: Carriers,
        refusal: Refusal,
    ) -> None:
        """Create a handler.

        `name`: of the dialect. `read`: reads the request until its audio; raises StreamerError. The contents of its
        stack are closed after the answer. `refusal`: returns the answer for an error.
        """
        # The silence of a file does not mean that a client has gone.
        self._settings = replace(context.session(Mode.SEGMENTED), stall_timeout_s=0.0)
        self._context = context
        self._name = name
        self._read = read
        self._carriers = carriers
        self._refusal = refusal

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Run a stream over the request, and return its answer."""
        services, admission = self._context.manager.services, self._context.admission
        try:
            await services.throttle.acquire()
            admission.check()
            identity = await authenticate(request, self._context.door, self._carriers)
            async with admission.admit(request.remote, identity, None):
                with ExitStack() as stack:
                    return _last(await self._transcribe(request, identity, stack))
        except StreamerError as error:
            services.observer.on_refused(RecordingTransport.name, error.code, request.remote or "unknown")
            return _last(self._refusal(error))
        except Exception as error:
            log.exception("a request to %s failed", request.path)
            services.observer.unexpected_error(Subsystem.API_ROUTING, error)
            return _last(self._refusal(UNEXPECTED))

    async def _transcribe(
        self, request: web.Request, identity: Identity | None, stack: ExitStack
    ) -> web.StreamResponse:
        services, headers = self._context.manager.services, request.headers
        settings = apply_limits(self._settings, identity)
        spool = temporary_file(stack, settings.limits.max_spool_bytes)
        transport = RecordingTransport(request, spool, min(_READ_BYTES, settings.limits.max_audio_message_bytes))
        meter = _meter_of(request, transport)
        now = services.clock.now()
        lease = self._context.door.new_lease(identity, now)
        summary = Summary()
        try:
            recording = transport.recording = await self._read(request, stack)
            async with self._context.admission.use(recording.model) as model:
                summary = await self._context.manager.run(
                    transport,
                    RecordingCodec(self._name, recording.start),
                    settings,
                    measure=size_of,
                    handshake=HandshakeInfo(now, headers.get("traceparent"), headers.get("tracestate")),
                    lease=lease,
                    model=model,
                )
        finally:
            transport.gone()
            if meter is not None:
                services.addresses.charge_session(request.remote, meter.take(), summary.received_s)
        answer = recording.answer
        if answer.error is not None or not answer.is_complete:
            return await answer.refuse(answer.error or UNEXPECTED)
        return await answer.finish(summary)


async def authenticate(request: web.Request, door: Authenticator, carriers: Carriers) -> Identity | None:
    """Authenticate the client of a plain request; return None if authentication is disabled. Raises StreamerError."""
    headers = request.headers
    return await door.authenticate(
        headers.get("Origin"), headers.get("Host"), carriers.find(headers, (), request.query)
    )


def temporary_file(stack: ExitStack, max_bytes: int) -> BinaryIO:
    """Return a file of at most `max_bytes`, which is closed with the stack; its beginning stays in memory."""
    file = stack.enter_context(SpooledTemporaryFile(_MEMORY_BYTES))  # noqa: SIM115 (the stack closes it)
    return cast("BinaryIO", Spool(cast("BinaryIO", file), max_bytes))


def ignored_headers(names: Sequence[str]) -> dict[str, str]:
    """Return the header that names the parameters without effect; no header if there are none. Log them as well."""
    if not names:
        return {}
    log.info("parameters without effect: %s", ", ".join(map(brief, names)))
    return {IGNORED_HEADER: ", ".join(name for name in names if name.isascii() and name.isidentifier())}


def _meter_of(request: web.Request, transport: RecordingTransport) -> Meter | None:
    """Return the meter of the connection, and count the connection as a session."""
    connection = request.transport.get_protocol() if request.transport is not None else None
    return connection.become_session(transport.gone) if isinstance(connection, HttpConnection) else None


def _last(response: web.StreamResponse) -> web.StreamResponse:
    """Return the response, after which the connection ends: its body may be unread."""
    response.force_close()
    return response
