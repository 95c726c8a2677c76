"""Audio by POST: the body is a stream's audio, the answer its events, a line each, while the body still comes."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from contextlib import closing
from dataclasses import replace
from typing import Any, BinaryIO, cast

import msgspec
from aiohttp import web

from streamer.access import QUERY_NAME, Authenticator
from streamer.access.factory import apply_limits
from streamer.connection.admission import Admission
from streamer.connection.hosted_model import HostedModel
from streamer.connection.manager import ConnectionManager
from streamer.connection.meter import Meter
from streamer.connection.transport import FrameSink
from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.protocols.codec import Codec
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import HandshakeInfo, Subsystem
from streamer.transports.handshake import Endpoint, opening_of
from streamer.transports.http import UNEXPECTED, credential_of, refusal
from streamer.transports.listener import HttpConnection
from streamer.transports.spool import Spool
from streamer.transports.upload_answers import UploadAnswer, answer_to

_READ_BYTES = 64 * 1024
_MEMORY_BYTES = 1024 * 1024
"""Of a spooled file, before it is written to disk."""
_BY_TYPE = {
    "audio/ogg": "ogg", "audio/webm": "webm", "video/webm": "webm", "audio/mp4": "mp4", "audio/x-m4a": "mp4",
    "video/mp4": "mp4", "audio/wav": "wav", "audio/x-wav": "wav", "audio/flac": "flac", "audio/x-flac": "flac",
    "audio/mpeg": "mp3", "audio/aac": "aac", "audio/amr": "amr",
}  # fmt: skip
"""Encodings by the body's media type, if the query does not name one; anything else is `auto`."""
_NUMBERS = frozenset({"sample_rate", "channels", "interim_interval_ms", "chunk_ms"})
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_OBJECTS = frozenset({"vad", "options", "metadata"})
_FORMAT = frozenset({"encoding", "sample_rate", "channels", "downmix"})
_KNOWN = _NUMBERS | _OBJECTS | _FORMAT | {"interim_results", "format"}

log = logging.getLogger(__name__)


class UploadTransport:
    """One request; a `connection.transport.Transport`. Its first frame is the start that the query asks for."""

    name = "http"
    control_frames_received = 0
    has_peer_closed = False

    def __init__(
        self, request: web.Request, answer: UploadAnswer, start: str, max_message_bytes: int, spool: BinaryIO
    ) -> None:
        self.peer = request.remote or "unknown"
        self.spool = spool
        """For an MP4 whose index is at its end."""
        self._answer = answer
        self._request = request
        self._start: str | None = start
        self._read_bytes = min(_READ_BYTES, max_message_bytes)
        self._is_stopped = self._is_closed = False
        self._disconnected = asyncio.Event()

    def on_disconnect(self) -> None:
        """Hear that the connection has ended."""
        self._disconnected.set()

    async def receive(self) -> str | bytes | None:
        if self._start is not None:
            start, self._start = self._start, None
            return start
        if not self._is_stopped and not self._is_closed:
            await asyncio.sleep(0)  # a body that is here already would never let others run
            try:
                data: bytes = await self._request.content.read(self._read_bytes)
            except (ConnectionError, web.RequestPayloadError, asyncio.IncompleteReadError):
                return None
            if data:
                return data
            self._is_stopped = True
            return '{"type":"stop"}'
        await self._disconnected.wait()
        return None

    def set_sink(self, sink: FrameSink[str | bytes] | None) -> None:
        """Everything goes through `receive`."""

    async def send(self, frame: str | bytes) -> None:
        """Add an event to the answer."""
        assert isinstance(frame, str)
        if self._disconnected.is_set():
            raise ConnectionResetError("the client is gone")
        if not await self._answer.add(frame):
            self._is_closed = True  # nothing that follows changes the answer
            raise ConnectionResetError("the answer is complete")

    def send_now(self, frame: str | bytes) -> bool:
        return False

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        if not self._disconnected.is_set():
            await self._answer.end()
        self._is_closed = True
        self._disconnected.set()

    def abort(self) -> None:
        """Let go of the request; a peer that still sends or reads is cut off."""
        if not self._is_closed and self._request.transport is not None:
            self._request.transport.abort()
        self._disconnected.set()


class UploadHandler:
    """The aiohttp handler of POST to one path."""

    def __init__(
        self,
        endpoint: Endpoint,
        codec: Codec[str | bytes],
        connections: ConnectionManager,
        admission: Admission,
        authenticator: Authenticator,
    ) -> None:
        # A file has no microphone whose silence would mean anything.
        self._settings = replace(endpoint.settings, stall_timeout_s=0.0)
        self._endpoint = endpoint
        self._codec = codec
        self._connections = connections
        self._admission = admission
        self._authenticator = authenticator

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Run a stream over the request, and return its answer."""
        services = self._connections.services
        try:
            await services.throttle.acquire()
            self._admission.check(self._endpoint.model)
            identity = await self._authenticator.authenticate(
                request.headers.get("Origin"), request.headers.get("Host"), credential_of(request)
            )
            start, answer = start_of(request), answer_to(request)
            accepted = self._endpoint.accept(opening_of(request, self._authenticator))
            async with self._admission.admit(request.remote, identity, accepted.model) as model:
                settings = apply_limits(self._settings, identity)
                codec = accepted.codec if accepted.model else self._codec
                return await self._stream(request, answer, start, settings, identity, codec, model)
        except StreamerError as error:
            services.observer.on_refused(UploadTransport.name, error.code, request.remote or "unknown")
            return _last(refusal(error))
        except Exception as error:
            log.exception("a request to %s failed", request.path)
            services.observer.unexpected_error(Subsystem.API_ROUTING, error)
            return _last(refusal(UNEXPECTED))

    async def _stream(
        self,
        request: web.Request,
        answer: UploadAnswer,
        start: str,
        settings: SessionSettings,
        identity: Any,
        codec: Codec[str | bytes],
        model: HostedModel | None,
    ) -> web.StreamResponse:
        services = self._connections.services
        headers, now = request.headers, services.clock.now()
        handshake = HandshakeInfo(now, headers.get("traceparent"), headers.get("tracestate"))
        lease = self._authenticator.new_lease(identity, now)
        file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 (closed below)
        with closing(file):
            spool = cast("BinaryIO", Spool(cast("BinaryIO", file), settings.limits.max_spool_bytes))
            transport = UploadTransport(request, answer, start, settings.limits.max_audio_message_bytes, spool)
            meter = _meter_of(request, transport)
            audio_s = 0.0
            try:
                summary = await self._connections.run(
                    transport, codec, settings, measure=len, handshake=handshake, lease=lease, model=model
                )
                audio_s = summary.received_s
            finally:
                transport.on_disconnect()
                if meter is not None:
                    services.addresses.charge_session(request.remote, meter.take(), audio_s)
        return _last(answer.response or refusal(UNEXPECTED))


def start_of(request: web.Request) -> str:
    """Return the start message for a request's query, as JSON. Raises BadRequest."""
    start: dict[str, Any] = {"type": "start"}
    form: dict[str, Any] = {"encoding": _BY_TYPE.get(request.content_type, "auto")}
    for name, text in request.query.items():
        if name in (QUERY_NAME, "format"):
            continue
        if name not in _KNOWN:
            raise BadRequest(field="query", expected=f"one of {', '.join(sorted(_KNOWN))}", got=name)
        (form if name in _FORMAT else start)[name] = _value(name, text)
    start["format"] = form
    return msgspec.json.encode(start).decode()


def _value(name: str, text: str) -> Any:
    if name in _NUMBERS:
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise BadRequest(field=name, expected="an integer", got=text)
        return int(text)
    if name in _OBJECTS:
        return msgspec.Raw(text.encode()) if _is_object(text) else _refuse(name, "a JSON object", text)
    if name == "encoding":
        return text
    return _FLAGS[text] if text in _FLAGS else _refuse(name, "true or false", text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _refuse(name: str, expected: str, got: str) -> Any:
    raise BadRequest(field=name, expected=expected, got=got)


def _meter_of(request: web.Request, transport: UploadTransport) -> Meter | None:
    """Return the meter of the connection, and count the connection as a session."""
    connection = request.transport.get_protocol() if request.transport is not None else None
    return connection.become_session(transport.on_disconnect) if isinstance(connection, HttpConnection) else None


def _last(response: web.StreamResponse) -> web.StreamResponse:
    """Return the response, after which the connection ends: its body may be unread."""
    response.force_close()
    return response
