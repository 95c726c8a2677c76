"""The handshake of a WebSocket: authentication, admission, and the refusal or the running session."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from streamer.access import (
    BEARER_PREFIX,
    Authenticator,
    Carriers,
    Credential,
    CredentialSource,
    ForbiddenOrigin,
    Identity,
)
from streamer.access.factory import apply_limits
from streamer.clock import Clock, timeout
from streamer.connection.admission import Admission
from streamer.connection.budget import WorkBudget, WorkLimits
from streamer.connection.manager import ConnectionManager
from streamer.connection.meter import Meter
from streamer.errors import BadRequest, ErrorCode, StreamerError, brief
from streamer.protocols.codec import Codec
from streamer.protocols.opening import Accepted, Opening
from streamer.session.events import ErrorEvent
from streamer.session.messages import Auth
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import HandshakeInfo, Subsystem
from streamer.transports.http import UNEXPECTED, refusal
from streamer.transports.receive_coalescing import ReceiveCoalescer
from streamer.transports.status_codes import ACCESS_ERROR_CODES, CLOSE_CODES
from streamer.transports.websocket import NO_REASONS, SwitchedProtocols, WebSocketFrame, WebSocketTransport

log = logging.getLogger(__name__)

IGNORED_HEADER = "X-Streamer-Ignored"
"""Header that names the parameters of a request that have no effect."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Time-outs in seconds: of authentication, and of the peer's answer to a close."""

    handshake_s: float = 5.0
    close_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path with its protocol version and mode."""

    path: str
    settings: SessionSettings
    accept: Callable[[Opening], Accepted[WebSocketFrame]]
    """Returns the codec of a connection. Raises BadRequest for a request that cannot be served."""
    subprotocols: tuple[str, ...]
    supports_auth_message: bool = False
    """The protocol version has a message for a token."""
    upload_codec: Codec[WebSocketFrame] | None = None
    """Codec of uploads by POST to the same path; None if they are not served."""
    carriers: Carriers = Carriers()
    close_codes: Mapping[ErrorCode, int] = field(default_factory=lambda: CLOSE_CODES)
    close_reasons: Mapping[ErrorCode, str] = field(default_factory=lambda: NO_REASONS)
    """Reasons in the close frame, for errors whose reason is not their code."""
    refusal: Callable[[StreamerError], web.Response] = refusal
    """Returns the HTTP answer of an error before the upgrade."""
    model: str = ""
    """Name of one of several models, if the path alone selects it."""
    door: Authenticator | None = None
    """Access policy of this endpoint; None for the server's."""


class Upgrades:
    """Runs each upgraded connection in its own task, beyond the life of the request."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[web.StreamResponse | None]] = set()

    async def answer(
        self, transport: WebSocketTransport, conversation: Coroutine[None, None, web.StreamResponse | None]
    ) -> web.StreamResponse:
        """Start a conversation on a transport; return the answer for aiohttp.

        The answer is the refusal with which the conversation ends, or a placeholder after the upgrade.
        """
        task = asyncio.create_task(conversation)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            either: list[asyncio.Future[Any]] = [task, transport.upgraded]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not transport.is_upgraded:
                task.cancel()  # unless it is done: aiohttp does not want the answer
        if transport.is_upgraded:
            return SwitchedProtocols()
        answer = task.result()
        return answer if answer is not None else web.Response(status=400)

    def _ended(self, task: asyncio.Task[web.StreamResponse | None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # an unused answer is not an error

    async def stop(self, timeout_s: float) -> None:
        """Wait for the conversations to end; cancel those that do not within `timeout_s`."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class EndpointHandler:
    """The aiohttp handler of an endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        connections: ConnectionManager,
        admission: Admission,
        authenticator: Authenticator,
        timeouts: Timeouts,
        receive_coalescer: ReceiveCoalescer,
        upgrades: Upgrades,
    ) -> None:
        self._endpoint = endpoint
        self._connections = connections
        self._services = connections.services
        self._admission = admission
        self._authenticator = endpoint.door or authenticator
        self._timeouts = timeouts
        self._receive_coalescer = receive_coalescer
        self._upgrades = upgrades
        limits = endpoint.settings.limits
        self._max_message_bytes = max(limits.max_audio_message_bytes, limits.max_control_bytes)
        self._work = WorkLimits(limits.max_control_share)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Return the refusal of a request, or nothing that aiohttp would have to send once it has upgraded."""
        headers, services = request.headers, self._services
        handshake = HandshakeInfo(services.clock.now(), headers.get("traceparent"), headers.get("tracestate"))
        transport = WebSocketTransport(
            request,
            self._endpoint.subprotocols,
            self._max_message_bytes,
            self._timeouts.close_s,
            self._receive_coalescer,
            WorkBudget(self._work, services.addresses.of(request.remote)),
            services.memory,
            self._endpoint.close_codes,
            self._endpoint.close_reasons,
        )
        visit = Handshake(transport, request, self._endpoint, self._authenticator)
        return await self._upgrades.answer(transport, self._measure(transport, visit, handshake))

    async def _measure(
        self, transport: WebSocketTransport, visit: Handshake, handshake: HandshakeInfo
    ) -> web.StreamResponse | None:
        """Converse, and charge the peer's address for the time that this takes."""
        meter = Meter(self._services.clock.cpu)
        try:
            return await meter.run(self._converse(transport, visit, handshake))
        finally:
            self._services.addresses.charge_session(transport.address, meter.spent_s, visit.audio_s)

    async def _converse(
        self, transport: WebSocketTransport, visit: Handshake, handshake: HandshakeInfo
    ) -> web.StreamResponse | None:
        """Return the refusal of a request, or None at the end of the conversation that followed it."""
        services = self._services
        try:
            await services.throttle.acquire()
            self._admission.check(self._endpoint.model)
            identity = await visit.authenticate(services.clock, self._admission, self._timeouts.handshake_s)
            accepted = visit.accepted()
            async with self._admission.admit(transport.address, identity, accepted.model) as model:
                transport.upgrade(accepted.headers)
                lease = self._authenticator.new_lease(identity, services.clock.now())
                settings = apply_limits(self._endpoint.settings, identity)
                summary = await self._connections.run(
                    transport, accepted.codec, settings, measure=len, handshake=handshake, lease=lease, model=model
                )
                visit.audio_s = summary.received_s
                if accepted.on_end is not None:
                    accepted.on_end()
        except StreamerError as error:
            if isinstance(error, ForbiddenOrigin):
                visit.log_forbidden_origin()
            services.observer.on_refused(WebSocketTransport.name, error.code, transport.peer)
            return await visit.refuse(error)
        except ConnectionError:  # the client disconnected before the upgrade, which is not an error
            return None
        except web.HTTPException:
            raise  # the answer to a request that is not an upgrade
        except Exception as error:
            log.exception("a connection to %s failed", self._endpoint.path)
            services.observer.unexpected_error(Subsystem.API_ROUTING, error)
            return await visit.refuse(UNEXPECTED)
        finally:
            transport.abort()
        return None


class Handshake:
    """One request for an upgrade, until it is answered."""

    audio_s = 0.0
    """Seconds of audio that came of it."""

    def __init__(
        self, transport: WebSocketTransport, request: web.Request, endpoint: Endpoint, authenticator: Authenticator
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._authenticator = authenticator
        self._subprotocols = _offered_subprotocols(request)
        self._origin = request.headers.get("Origin")
        self._host = request.headers.get("Host")
        self._credential = endpoint.carriers.find(request.headers, self._subprotocols, request.query)
        self._opening = opening_of(request, authenticator)
        self._accepted: Accepted[WebSocketFrame] | None = None

    def accepted(self) -> Accepted[WebSocketFrame]:
        """Return the codec of the connection. Raises BadRequest for a request that cannot be served."""
        if self._accepted is None:
            accepted = self._endpoint.accept(self._opening)
            if accepted.ignored:
                names = ", ".join(map(brief, accepted.ignored))
                log.info("%s: parameters without effect: %s", self._endpoint.path, names)
                header = ", ".join(filter(_is_token, accepted.ignored))
                accepted = replace(accepted, headers={**accepted.headers, IGNORED_HEADER: header})
            self._accepted = accepted
        return self._accepted

    async def authenticate(self, clock: Clock, admission: Admission, timeout_s: float) -> Identity | None:
        """Authenticate the client; return None if authentication is disabled.

        Upgrades first if the credential must be in a first message.
        """
        self._check_subprotocols()
        by_message = (
            self._authenticator.required
            and self._authenticator.accepts_auth_message
            and self._endpoint.supports_auth_message
        )
        if self._credential is not None or not by_message:
            return await self._authenticator.authenticate(self._origin, self._host, self._credential)
        self._authenticator.origins.check(self._origin, self._host)
        with admission.acquire_handshake():
            self._transport.upgrade()
            credential = await self._first_message(clock, timeout_s)
        return await self._authenticator.verify(credential)

    def log_forbidden_origin(self) -> None:
        """Log the setting that would allow the page. (The log limits repeated messages.)"""
        log.warning(
            "origin %s was refused at the host %s: add it to access.origins if its pages may connect. If it is this "
            "server's own page behind a proxy, have the proxy forward the Host header",
            brief(self._origin),
            brief(self._host),
        )

    async def refuse(self, error: StreamerError) -> web.StreamResponse | None:
        """Refuse over HTTP, or over the WebSocket if it is open or must be opened for browsers."""
        if self._authenticator.refuse_after_upgrade and error.code in ACCESS_ERROR_CODES:
            try:
                self._transport.upgrade()
            except ConnectionError:
                return None
        if not self._transport.is_upgraded:
            return self._endpoint.refusal(error)
        with suppress(ConnectionError):
            for frame in self._farewell(ErrorEvent.from_error(error, fatal=True)):
                await self._transport.send(frame)
            await self._transport.close(error.code, error.code)
        return None

    def _farewell(self, failed: ErrorEvent) -> list[WebSocketFrame]:
        """Return the frames that report an error."""
        try:
            encoded = self.accepted().codec.encode(failed)
        except StreamerError:  # the request has no codec; the close code remains
            return []
        if isinstance(encoded, list):
            return [reply.frame for reply in encoded]
        return [] if encoded is None else [encoded]

    def _check_subprotocols(self) -> None:
        """Raise BadRequest if a token is offered without a subprotocol that the server can select."""
        offered = self._subprotocols
        carried = any(word.startswith(BEARER_PREFIX) for word in offered)
        if carried and self._endpoint.subprotocols and not any(word in self._endpoint.subprotocols for word in offered):
            name = self._endpoint.subprotocols[0]
            raise BadRequest(f"Sec-WebSocket-Protocol: expected {name} beside the token")

    async def _first_message(self, clock: Clock, timeout_s: float) -> Credential | None:
        try:
            async with timeout(clock, timeout_s):
                frame = await self._transport.receive()
        except TimeoutError:
            return None
        message = None if frame is None else self.accepted().codec.decode(frame)
        return Credential(message.secret, CredentialSource.MESSAGE) if isinstance(message, Auth) else None


def _offered_subprotocols(request: web.Request) -> list[str]:
    lines = request.headers.getall("Sec-WebSocket-Protocol", ())
    return [word.strip() for line in lines for word in line.split(",")]


def opening_of(request: web.Request, door: Authenticator) -> Opening:
    """Return a request as a value."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Opening(request.path, tuple(request.query.items()), headers, str(uuid.uuid4()), door.wall_clock())


def _is_token(name: str) -> bool:
    """Return whether a name may stand in a header (RFC 9110, 5.6.2)."""
    return name.isascii() and name.replace("_", "").replace("-", "").replace(".", "").isalnum()
