"""The gRPC server: accepts calls, runs their connections, and ends them with a status."""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from streamer.access import Authenticator, Credential, CredentialSource, Identity, Proxies, extract_credential
from streamer.access.factory import apply_limits
from streamer.clock import timeout
from streamer.config import ServerSettings, Settings
from streamer.connection.admission import Admission, QuotaExceeded
from streamer.connection.budget import TOO_MUCH_OF_ADDRESS
from streamer.connection.hosted_model import HostedModel
from streamer.connection.manager import ConnectionManager
from streamer.connection.meter import Meter
from streamer.connection.model_pool import ModelPool
from streamer.errors import RETRY_AFTER, ListenFailed, StreamerError
from streamer.inference.contract import Readiness
from streamer.protocols.codec import Codec
from streamer.protocols.grpc_codec import GrpcFrame, frame_bytes, peek_auth
from streamer.protocols.opening import Accepted, Opening
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.memory import MemoryAccount
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import HandshakeInfo, Subsystem
from streamer.transports.grpc.access_interceptor import AccessInterceptor
from streamer.transports.grpc.auxiliary import AuxiliaryLimiter
from streamer.transports.grpc.health import Health, health_services
from streamer.transports.grpc.options import max_calls, options
from streamer.transports.grpc.status import STATUS, refuse, trailers
from streamer.transports.grpc.tls import credentials
from streamer.transports.grpc.transport import GrpcTransport, RpcContext
from streamer.transports.http import UNEXPECTED

SERVICE: str = pb.DESCRIPTOR.services_by_name["Streamer"].full_name

log = logging.getLogger(__name__)

_ABORT_TIMEOUT_S = 0.1
"""Time in seconds to send a status, which a client that does not read does not take."""


@dataclass(frozen=True, slots=True)
class GrpcService:
    """Parts of the service: one method for both modes."""

    session: SessionSettings
    """Settings of a start without a mode."""
    accept: Callable[[Opening], Accepted[GrpcFrame]]
    """Returns the codec of a call, and its model if there are several."""
    connections: ConnectionManager
    admission: Admission
    authenticator: Authenticator


class GrpcServer:
    """Serves on its own port from `start` to `stop`."""

    def __init__(
        self,
        service: GrpcService,
        settings: Settings,
        readiness: Callable[[], Readiness],
        proxies: Proxies,
        *,
        models: ModelPool | None = None,
        shared: bool = False,
    ) -> None:
        """Create a server.

        `proxies`: trusted ones. `models`: several models, whose health is queried as `models/NAME`. `shared`: other
        processes listen on the same port, and the kernel distributes the connections.
        """
        self._settings = settings
        self._shared = shared
        self._servicer = StreamServicer(service, settings.server, proxies)
        max_watches = settings.grpc.max_watches_per_address or math.inf
        self._health = Health(health_services(SERVICE, readiness, models), max_watches, proxies)
        self._access_interceptor = AccessInterceptor(
            service.authenticator, settings.access, service.connections.services.observer, proxies
        )
        clock = service.connections.services.clock
        self._auxiliary = AuxiliaryLimiter(SERVICE, clock, settings.server.handshake_timeout_s)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port. Raises ListenFailed, and ConfigError for an unreadable certificate."""
        settings = self._settings
        guards = [self._access_interceptor] if self._access_interceptor.services else []
        server = grpc.aio.server(
            interceptors=[*guards, self._auxiliary],
            options=options(settings, shared=self._shared),
            maximum_concurrent_rpcs=max_calls(settings),
        )
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self._servicer.stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Stream": method}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.grpc.reflection:
            reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        port = self._bind(server)
        await server.start()
        self._server = server
        return port

    async def stop(self, grace_s: float) -> None:
        """Stop. Calls may end by themselves within `grace_s`; the rest is cut off."""
        self._health.stop()
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def _bind(self, server: grpc.aio.Server) -> int:
        host, tls = self._settings.server.host, self._settings.tls
        address = f"[{host}]" if ":" in host else host
        address = f"{address}:{max(0, self._settings.grpc.port)}"
        try:
            if tls.certificate:
                return server.add_secure_port(address, credentials(tls))
            return server.add_insecure_port(address)
        except RuntimeError:  # gRPC logs the reason but does not return it
            raise ListenFailed(f"cannot listen on {address} for gRPC: is the port in use?") from None


class StreamServicer:
    """Handles a call from its metadata to its status."""

    def __init__(self, service: GrpcService, settings: ServerSettings, proxies: Proxies) -> None:
        self._service = service
        self._proxies = proxies
        self._settings = settings

    async def stream(self, _: object, call: RpcContext) -> None:
        """Handle a call of the method."""
        transport, services = GrpcTransport(call, self._proxies), self._service.connections.services
        meter = Meter(services.clock.cpu)
        try:
            await meter.run(self._serve(call, transport))
        finally:
            services.addresses.charge_session(transport.peer, meter.spent_s, transport.audio_s)

    async def _serve(self, call: RpcContext, transport: GrpcTransport) -> None:
        service = self._service
        observer = service.connections.services.observer
        metadata = {key: value for key, value in call.invocation_metadata() or () if isinstance(value, str)}
        handshake = HandshakeInfo(
            service.connections.services.clock.now(), metadata.get("traceparent"), metadata.get("tracestate")
        )
        await service.connections.services.throttle.acquire()
        unread = MemoryAccount(service.connections.services.memory)
        try:
            self._check_address(transport.peer)
            service.admission.check()
            unread.update(service.session.limits.max_audio_message_bytes)  # gRPC does not say what it keeps
            identity = await self._authenticate(metadata.get("authorization"), transport)
            opening = Opening(f"/{SERVICE}/Stream", (), metadata, str(uuid.uuid4()), service.authenticator.wall_clock())
            accepted = service.accept(opening)
            async with service.admission.admit(transport.peer, identity, accepted.model) as model:
                await transport.accept()
                await self._run_connection(transport, identity, handshake, accepted.codec, model)
        except StreamerError as error:
            observer.on_refused(GrpcTransport.name, error.code, transport.peer)
            await refuse(call, error)
        except ConnectionError:
            pass  # the client disconnected before the answer, which is not an error
        except Exception as error:
            log.exception("a gRPC call failed")
            observer.unexpected_error(Subsystem.API_ROUTING, error)
            await refuse(call, UNEXPECTED)
        finally:
            unread.update(0)
        await self._end(transport, call)

    def _check_address(self, address: str) -> None:
        """Raise TooMany if the address has exceeded its work budget."""
        if wait_s := self._service.connections.services.addresses.wait_s(address):
            raise QuotaExceeded(TOO_MUCH_OF_ADDRESS, retry_after_s=wait_s)

    async def _authenticate(self, authorization: str | None, transport: GrpcTransport) -> Identity | None:
        """Authenticate the client by metadata or a first message; return None if authentication is disabled."""
        authenticator = self._service.authenticator
        credential = extract_credential(authorization, (), None)
        if credential is None and authenticator.required and authenticator.accepts_auth_message:
            with self._service.admission.acquire_handshake():
                await transport.accept()
                credential = await self._first_message(transport)
        return await authenticator.verify(credential)

    async def _first_message(self, transport: GrpcTransport) -> Credential | None:
        try:
            async with timeout(self._service.connections.services.clock, self._settings.handshake_timeout_s):
                frame = await transport.receive()
        except TimeoutError:
            return None
        if frame is None:
            return None
        auth, says_more = peek_auth(frame)
        if says_more:
            transport.unread(frame)
        return None if auth is None else Credential(auth.secret, CredentialSource.MESSAGE)

    async def _run_connection(
        self,
        transport: GrpcTransport,
        identity: Identity | None,
        handshake: HandshakeInfo,
        codec: Codec[GrpcFrame],
        model: HostedModel | None,
    ) -> None:
        """Run the connection. gRPC cancels the handler if the client cancels or its deadline passes: a disconnect."""
        service = self._service
        lease = service.authenticator.new_lease(identity, service.connections.services.clock.now())
        settings = apply_limits(service.session, identity)
        running = asyncio.create_task(
            service.connections.run(
                transport, codec, settings, measure=frame_bytes, handshake=handshake, lease=lease, model=model
            )
        )
        try:
            transport.audio_s = (await asyncio.shield(running)).received_s
        except asyncio.CancelledError:
            transport.hang_up()
            transport.audio_s = (await running).received_s
            raise

    async def _end(self, transport: GrpcTransport, call: RpcContext) -> None:
        """Send the status, within the client's time to read the preceding events."""
        ending = transport.call_end
        if ending is None:
            await self._cut_off(call)
            raise asyncio.CancelledError  # the client has disconnected or does not read
        if ending.code is not None:
            after_s = self._service.session.retry_after_s if ending.code in RETRY_AFTER else None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.close_timeout_s):
                    await call.abort(STATUS[ending.code], ending.reason, trailers(ending.code, after_s))

    async def _cut_off(self, call: RpcContext) -> None:
        """Abort a call whose handler is cancelled, which would otherwise stay open to its client."""
        with suppress(TimeoutError, grpc.aio.BaseError):
            async with asyncio.timeout(_ABORT_TIMEOUT_S):
                await call.abort(grpc.StatusCode.CANCELLED, "cut off")
