"""The composition root: the only module that knows all parts, and the order of their start and stop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aiohttp import web
from prometheus_client import Metric

import streamer
from streamer.access import Hosts, Proxies, ProxyHeader, ReplayStore
from streamer.access.factory import build_authenticator, metrics_policy, warn_if_unauthenticated
from streamer.audio.format import Encoding
from streamer.clock import PauseAwareClock
from streamer.config import Settings
from streamer.config.addresses import host_and_port
from streamer.connection.address_budgets import AddressBudgets
from streamer.connection.lifecycle import Lifecycle, LifecycleStage
from streamer.connection.manager import ConnectionManager
from streamer.connection.model_pool import ModelPool
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.dialects.dialect import DialectContext
from streamer.dialects.dialects import Dialects
from streamer.dialects.table import select
from streamer.endpoints import (
    MODEL_KEY,
    accepting,
    message_limits,
    native_endpoints,
    session_settings,
    unknown_model_route,
)
from streamer.errors import ConfigError, ListenFailed, install_command
from streamer.media.libopus import check_libopus
from streamer.parts import AppParts, ServedModel, build, make_admission, make_shared_access
from streamer.protocols.codec import Codec
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.memory import MemoryPool
from streamer.session.settings import SessionSettings
from streamer.telemetry.observer import Observer, Observers, Subsystem
from streamer.telemetry.telemetry import Telemetry
from streamer.transports import http, page
from streamer.transports.grpc.environment import set_defaults
from streamer.transports.handshake import Endpoint, EndpointHandler, Timeouts, Upgrades
from streamer.transports.limits import Buffers, HandshakeLimits
from streamer.transports.listener import Listener
from streamer.transports.receive_coalescing import ReceiveCoalescer
from streamer.transports.scrapes import Scrapes, metrics_route
from streamer.transports.tls import Certificate
from streamer.transports.upload import UploadHandler
from streamer.transports.websocket import WebSocketTransport

if TYPE_CHECKING:
    from streamer.transports.grpc.server import GrpcServer

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
"""Time in seconds for handlers, and then for model workers, to stop."""


@dataclass(frozen=True, slots=True)
class ProcessShared:
    """State shared by several processes that listen on the same ports."""

    fetch_totals: Callable[[], Awaitable[Iterable[Metric]]]
    """Collects the metrics of all processes. May raise TimeoutError."""
    replay_store: ReplayStore


class GrpcAvailability(Enum):
    """Whether `grpc.port` is served."""

    OFF = "off"
    OPTIONAL = "if possible"
    """Serve gRPC unless its packages are missing or its port is in use."""
    REQUIRED = "needed"


class App:
    """A whole server in this process.

    `async with App(settings) as app:` serves at `app.url` inside of the block; port 0 selects a free port. `parts`
    replaces parts in tests. Raises the errors of `build`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        parts: AppParts | None = None,
        observers: Sequence[Observer] = (),
        grpc: GrpcAvailability = GrpcAvailability.OFF,
        shared: ProcessShared | None = None,
    ) -> None:
        """Create a server. `shared`: it is one of several processes on the same ports."""
        self.settings = settings
        self._shared = shared
        self._grpc = grpc if settings.grpc.port else GrpcAvailability.OFF
        if self._grpc is not GrpcAvailability.OFF:
            set_defaults(os.environ)  # before any use of gRPC, also by traces
        parts = parts or build(settings)
        self.telemetry = parts.telemetry or Telemetry(parts.model.name, os.environ)
        self.registry = self.telemetry.registry
        self.model = parts.model
        self.engine = parts.backend
        self._parts = parts
        self.scoring = parts.scoring
        server = settings.server
        has_tls = bool(settings.tls.certificate)
        self._proxies = Proxies(server.trusted_proxies, ProxyHeader(server.proxy_header))
        self._clock = parts.clock or PauseAwareClock()
        self.store = make_shared_access(settings, self._clock)
        used = self.store or (shared.replay_store if shared else None)
        self.authenticator = build_authenticator(settings.access, used, tls=has_tls)
        self._metrics_policy = metrics_policy(server, self.authenticator)
        self.memory = MemoryPool(server.max_audio_bytes, server.max_sessions)
        self.admission = make_admission(server, parts, self.memory, self.store)
        self._addresses = AddressBudgets(server.max_control_share_per_address, self._clock)
        self._observer = Observers([self.telemetry, *observers])
        services = Services(
            self.scoring, parts.engine, self._observer, self._clock, memory=self.memory, addresses=self._addresses
        )
        self.connections = ConnectionManager(services, OutboxBounds(server.outbox_bytes, server.outbox_stall_s))
        self._clock.on_pause = self.connections.on_process_paused
        self.lifecycle = Lifecycle(self.admission, self.connections, self.engine)
        self.scoring.on_failure = lambda _: self.lifecycle.fail("speech scoring has failed")
        self.telemetry.watch(
            ready=lambda: self.lifecycle.readiness.ready,
            draining=lambda: self.lifecycle.stage is LifecycleStage.DRAINING,
            depth=lambda: self.engine.depth,
            load=lambda: self.admission.load,
        )
        self.dialects = self._mount(shared=shared is not None)
        self._listeners: list[Listener] = []
        self._upgrades = Upgrades()
        self._watch: asyncio.Task[None] | None = None
        self._port = server.port
        self._certificate = Certificate(settings.tls, self.authenticator.wall_clock) if has_tls else None
        self.telemetry.watch_certificate(lambda: self._certificate.expiry if self._certificate else None)
        address = server.metrics_address
        self._metrics_at = host_and_port(address, "server.metrics_address") if address else None
        self.metrics_port: int | None = None
        """Port of /metrics and probes, if they have their own."""
        self._grpc_server: GrpcServer | None = None
        self.grpc_port: int | None = None
        """Port of gRPC; None if it is not served."""

    @property
    def models(self) -> ModelPool | None:
        """Several models by name; None for one model."""
        return self._parts.models

    @property
    def port(self) -> int:
        """Port of the server, once it listens."""
        return self._port

    @property
    def url(self) -> str:
        scheme = "https" if self.settings.tls.certificate else "http"
        return f"{scheme}://{self._host}:{self.port}"

    @property
    def grpc_url(self) -> str | None:
        scheme = "grpcs" if self.settings.tls.certificate else "grpc"
        return f"{scheme}://{self._host}:{self.grpc_port}" if self.grpc_port else None

    @property
    def _host(self) -> str:
        host = self.settings.server.host
        return f"[{host}]" if ":" in host else host

    async def start(self) -> None:
        """Listen, then load the model; until then, sessions are refused.

        Raises ListenFailed, ModelLoadError, and ConfigError if gRPC or `audio.libopus` is required and not installed.
        """
        check_libopus(self.settings.audio.libopus)
        self._clock.start()
        self.telemetry.start()
        if self.store is not None:
            self.store.start()
        await self._listen()
        await self._listen_grpc()
        await self.dialects.start(self.settings.server.host)
        await self.scoring.start()
        await self.telemetry.instrument_task(Subsystem.INFERENCE, self.engine.start())
        self.lifecycle.set_ready()

    async def drain(self, *, lag_s: float, late_s: float = 0.0) -> None:
        """Drain sessions per `settings.drain`, with deadlines measured from `late_s` seconds ago."""
        if self.models is not None and (sessions := self.models.sessions):
            log.info("sessions by model: %s", ", ".join(f"{name}: {count}" for name, count in sessions.items()))
        await self.lifecycle.drain(self.settings.drain, lag_s=lag_s, late_s=late_s)

    async def stop(self) -> None:
        """Stop immediately and cut off all sessions. May be called at any time, more than once.

        Every part is stopped, even if another one raises. Each error is logged and counted; the last one is raised.
        """
        async with AsyncExitStack() as parts:  # parts are stopped in reverse order

            def push(name: str, stop: Callable[..., Awaitable[object]], *args: object) -> None:
                parts.push_async_callback(self._stop_part, name, stop, *args)

            parts.callback(self._clock.stop)
            push("telemetry", self.telemetry.stop)
            if self.store is not None:
                push("the shared store", self.store.stop)
            push("speech scoring", self.scoring.stop)
            push("the engine", self.engine.stop, STOP_TIMEOUT_S)
            if self._grpc_server is not None:
                push("the gRPC server", self._grpc_server.stop, STOP_TIMEOUT_S)
                self._grpc_server = None
            push("ports of dialects", self.dialects.stop, STOP_TIMEOUT_S)
            push("upgraded connections", self._upgrades.stop, STOP_TIMEOUT_S)
            while self._listeners:
                push("a listener", self._listeners.pop(0).stop)
            if self._watch is not None:
                self._watch.cancel()
                push("the certificate watcher", asyncio.wait, [self._watch])
            self.lifecycle.set_stopped()
            self.connections.abort()

    async def _stop_part(self, name: str, stop: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await stop(*args)
        except Exception as error:
            log.exception("%s did not stop cleanly", name)
            self._observer.unexpected_error(Subsystem.OTHER, error)
            raise

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self) -> None:
        server = self.settings.server
        warn_if_unauthenticated(self.authenticator, server.host)
        collect = self._shared.fetch_totals if self._shared else self.telemetry.collect
        scrapes = Scrapes(collect, server.processes)
        metrics = metrics_route(scrapes, self.telemetry, self._metrics_policy, self.authenticator)
        if self._metrics_at is not None:
            self.metrics_port = await self._serve([metrics], *self._metrics_at, for_clients=False)
        routes = self._streams() if self._metrics_at else [*self._streams(), metrics]
        self._port = await self._serve(routes, server.host, server.port)

    def _application(
        self, host: str, routes: Iterable[web.RouteDef], addresses: AddressBudgets, proxies: Proxies
    ) -> web.Application:
        """Return the application of one address: probes, and these routes."""
        checks = http.host_check(Hosts(host, self.settings.server.hosts), self._observer)
        application = web.Application(middlewares=[*http.forwarded(proxies), http.budget_check(addresses), *checks])
        application.add_routes([*http.probes(self.lifecycle, self.telemetry, self.models), *routes])
        return application

    def _streams(self) -> Iterator[web.RouteDef]:
        """Return the routes of clients: streams, information, the page."""
        server = self.settings.server
        authenticator = None if "info" in self.settings.access.anonymous else self.authenticator
        yield http.info_route(self._info(), self.telemetry, authenticator)
        timeouts = Timeouts(server.handshake_timeout_s, server.close_timeout_s)
        patience = ReceiveCoalescer()
        root = None
        for endpoint in self._endpoints():
            handler = EndpointHandler(
                endpoint, self.connections, self.admission, self.authenticator, timeouts, patience, self._upgrades
            )
            if endpoint.path == "/":
                root = handler.handle
                continue
            yield web.get(endpoint.path, handler.handle)
            if (codec := endpoint.upload_codec) is not None:
                upload = UploadHandler(endpoint, codec, self.connections, self.admission, self.authenticator)
                yield web.post(endpoint.path, upload.handle)
        yield from self.dialects.routes
        if self.models is not None:
            yield unknown_model_route(self.models, self.authenticator, self._observer)
        if server.page:
            yield from page.routes(root)
        elif root is not None:
            yield web.get("/", root)

    def _tls(self) -> ssl.SSLContext | None:
        if self._certificate is None:
            return None
        self._watch = asyncio.create_task(self._certificate.watch(self._observer))
        return self._certificate.context

    async def _serve(self, routes: Iterable[web.RouteDef], host: str, port: int, *, for_clients: bool = True) -> int:
        server = self.settings.server
        addresses = self._addresses if for_clients else AddressBudgets()
        proxies = self._proxies if for_clients else Proxies()
        listener = Listener(
            self._application(host, routes, addresses, proxies),
            HandshakeLimits(
                server.max_handshakes,
                server.handshake_timeout_s,
                partial(self._observer.on_refused, WebSocketTransport.name),
                server.max_handshakes_per_address or math.inf,
                addresses,
            ),
            tls=self._tls() if for_clients else None,
            proxies=proxies,
            buffers=Buffers(server.receive_buffer_bytes, server.send_buffer_bytes),
            shutdown_timeout_s=STOP_TIMEOUT_S,
        )
        port = await listener.start(host, port, shared=self._shared is not None)
        self._listeners.append(listener)
        return port

    async def _listen_grpc(self) -> None:
        if self._grpc is GrpcAvailability.OFF:
            return
        try:
            from streamer.transports.grpc.server import GrpcServer, GrpcService  # noqa: PLC0415 (an extra)
        except ModuleNotFoundError as error:
            if self._grpc is GrpcAvailability.OPTIONAL:
                return
            raise ConfigError(f"gRPC needs the extra: {install_command('grpc')} ({error})") from None
        from streamer.protocols.grpc_codec import GrpcCodec  # noqa: PLC0415
        from streamer.protocols.grpc_codec import GrpcFrame as CallFrame  # noqa: PLC0415 (an extra)

        settings = self.settings
        limits = settings.for_grpc()

        def make_codec(sample_rate: int) -> Codec[CallFrame]:
            return GrpcCodec(sample_rate, **message_limits(limits))

        accept = accepting(self._parts, make_codec, key=MODEL_KEY)
        session = replace(self._session(Mode.SEGMENTED), limits=limits)
        service = GrpcService(session, accept, self.connections, self.admission, self.authenticator)
        shared = self._shared is not None
        readiness = lambda: self.lifecycle.readiness  # noqa: E731
        server = GrpcServer(service, settings, readiness, self._proxies, models=self.models, shared=shared)
        try:
            self.grpc_port = await server.start()
            self._grpc_server = server
        except ListenFailed as error:
            if self._grpc is GrpcAvailability.REQUIRED:
                raise
            log.warning("gRPC is disabled: %s", error.message)

    def _session(self, mode: Mode) -> SessionSettings:
        return session_settings(self.settings, self.model, mode)

    def _endpoints(self) -> list[Endpoint]:
        return [*native_endpoints(self.settings, self._parts), *self.dialects.endpoints]

    def _mount(self, *, shared: bool) -> Dialects:
        """Return the dialects that the settings ask for. Raises ConfigError."""
        names = select(self.settings.dialects.serve, model=self.model.name, word_times=self.model.word_times)
        parts = self.connections, self.admission, self.authenticator
        return Dialects(names, DialectContext(self.settings, self._parts, self._session, *parts, shared=shared))

    def _info(self) -> http.Info:
        served = self._parts.served.values()
        return http.Info(
            version=streamer.__version__,
            model=_model_info(self.model),
            modes=tuple(Mode),
            dialects=(V1Codec.name, V2Codec.name, *self.dialects.names),
            encodings=(*Encoding, "auto", *self.settings.audio.formats),
            limits=dict(self.settings.limits.announced()),
            models=tuple(map(_model_info, served)),
            ports=self.dialects.ports,
        )


def _model_info(model: ServedModel) -> http.ServedModelInfo:
    output = model.output
    return http.ServedModelInfo(model.name, model.sample_rate, output.sample_rate if output else None, model.word_times)
