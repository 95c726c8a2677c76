"""Telephone calls: Twilio Media Streams, Asterisk's AudioSocket, and the feed of their results."""

from __future__ import annotations

import hmac
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from aiohttp import web

from streamer.access import Authenticator
from streamer.access.peers import PRIVATE_NETWORKS, Peers
from streamer.clock import timeout
from streamer.dialects.call_feed import CallFeed
from streamer.dialects.dialect import DialectContext, MountedDialect
from streamer.endpoints import message_limits
from streamer.errors import ConfigError, ErrorCode, StreamerError
from streamer.protocols.audiosocket import (
    HANGUP,
    AudioSocket,
    AudioSocketFrame,
    AudioSocketParser,
    call_id_of,
    encode_frame,
)
from streamer.protocols.calls import CallReport
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.twilio import Twilio, signature_of
from streamer.session.events import Mode
from streamer.transports.handshake import Endpoint
from streamer.transports.http import needs_credential
from streamer.transports.status_codes import CLOSE_CODES
from streamer.transports.tcp import TcpTransport
from streamer.transports.tcp_listener import TcpLimits, TcpListener
from streamer.transports.websocket import WebSocketFrame

log = logging.getLogger(__name__)

FEED_PATH, TWILIO_PATH = "/v1/calls", "/v1/calls/twilio"
DISCONNECTED = "disconnected"
"""Reason of the end of a call whose connection ended before its audio did."""
SIGNATURE = "x-twilio-signature"
TWILIO_CLOSE_CODES: Mapping[ErrorCode, int] = MappingProxyType(
    {code: number if number < 4000 else 1008 for code, number in CLOSE_CODES.items()}
)


@dataclass(slots=True)
class AudioSocketFraming:
    """The framing of one connection. The end of the connection is the end of the call."""

    _parser: AudioSocketParser = field(default_factory=AudioSocketParser)

    @property
    def held_bytes(self) -> int:
        return self._parser.held_bytes

    def feed(self, data: bytes) -> None:
        self._parser.feed(data)

    def next(self) -> AudioSocketFrame | None:
        return self._parser.next()

    def encode(self, frame: AudioSocketFrame) -> bytes:
        return encode_frame(frame)

    def end(self) -> AudioSocketFrame:
        return AudioSocketFrame(HANGUP)

    def farewell(self, error: StreamerError) -> AudioSocketFrame:
        return AudioSocketFrame(HANGUP)


class AudioSocketServer:
    """Takes the calls of Asterisk."""

    def __init__(self, context: DialectContext, feed: CallFeed) -> None:
        self._context = context
        self._services = context.manager.services
        self._settings = context.session(Mode.SEGMENTED)
        self._feed = feed

    async def serve(self, transport: TcpTransport[AudioSocketFrame]) -> float:
        """Take a call to its end; return its seconds of audio."""
        admission = self._context.admission
        try:
            async with timeout(self._services.clock, self._context.settings.server.handshake_timeout_s):
                first = await transport.receive()
            if first is None:
                return 0.0
            call_id = call_id_of(first)
            admission.check()
            async with admission.admit(transport.peer, None) as model:
                report = CallReport(AudioSocket.name, self._context.model.sample_rate, self._feed.publish)
                summary = await self._context.manager.run(
                    transport,
                    AudioSocket(call_id, report),
                    self._settings,
                    measure=lambda frame: len(frame.payload),
                    model=model,
                )
                report.end(DISCONNECTED, 0)
                return summary.received_s
        except TimeoutError:
            return 0.0
        except StreamerError as error:
            self._services.observer.on_refused(transport.name, error.code, transport.peer)
            await transport.refuse(error)
        return 0.0


def mount(context: DialectContext) -> MountedDialect:
    """Return the feed, the endpoint of Twilio and the port of AudioSocket. Raises ConfigError."""
    if context.shared:
        log.warning("the feed of calls has the calls of one server process only: set server.processes to 1")
    feed = CallFeed(lambda: context.admission.draining and not len(context.manager))
    twilio = _twilio(context, feed)
    listeners = (_audiosocket(context, feed),) if context.settings.dialects.calls_audiosocket_port else ()
    listen = needs_credential(feed.serve, context.door)
    return MountedDialect((twilio,) if twilio else (), (web.get(FEED_PATH, listen),), listeners)


def _twilio(context: DialectContext, feed: CallFeed) -> Endpoint | None:
    """Return the endpoint of Twilio; None if the server has keys and cannot check signatures."""
    path = context.settings.dialects.calls_twilio_token_file
    token = _read_token(path) if path else None
    if token is None and context.door.required:
        log.warning("Twilio is not served: set dialects.calls_twilio_token_file, because it sends signatures, not keys")
        return None
    settings = context.session(Mode.SEGMENTED)

    def accept(opening: Opening) -> Accepted[WebSocketFrame]:
        if token is not None:
            check_signature(token, opening)
        model = context.model_of(opening)
        report = CallReport(Twilio.name, model.sample_rate, feed.publish)
        codec = Twilio(report, **message_limits(settings.limits))
        return Accepted(codec, model=model.name, on_end=lambda: report.end(DISCONNECTED, 0))

    door = Authenticator(None, context.door.wall_clock, context.door.origins)
    return Endpoint(TWILIO_PATH, settings, accept, (), close_codes=TWILIO_CLOSE_CODES, door=door)


def check_signature(token: bytes, opening: Opening) -> None:
    """Raise StreamerError unless Twilio has signed the request, for the address that it was told."""
    signature = opening.headers.get(SIGNATURE, "")
    host = opening.headers.get("host", "")
    for scheme in ("wss", "https", "ws", "http"):
        if hmac.compare_digest(signature.encode(), signature_of(token, f"{scheme}://{host}{opening.path}").encode()):
            return
    raise StreamerError(f"{SIGNATURE}: expected the signature of Twilio", code=ErrorCode.UNAUTHENTICATED)


def _read_token(path: str) -> bytes:
    field = "dialects.calls_twilio_token_file"
    try:
        token = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{field}: {path}: cannot be read: {error.strerror}", field=field) from None
    if not token:
        raise ConfigError(f"{field}: {path}: expected the auth token of the account, got an empty file", field=field)
    return token


def _audiosocket(context: DialectContext, feed: CallFeed) -> TcpListener[AudioSocketFrame]:
    dialects = context.settings.dialects
    if context.door.required and not dialects.calls_peers:
        expected = "the networks that need no key, because AudioSocket has no authentication"
        raise ConfigError(field="dialects.calls_peers", expected=expected, got="nothing, with keys or tokens set")
    return TcpListener(
        max(0, dialects.calls_audiosocket_port),
        AudioSocketFraming,
        AudioSocketServer(context, feed).serve,
        TcpLimits(
            context.settings.server.max_sessions,
            math.inf,
            context.settings.server.close_timeout_s,
            Peers(dialects.calls_peers or PRIVATE_NETWORKS, field="dialects.calls_peers"),
        ),
        context.manager.services,
        shared=context.shared,
    )
