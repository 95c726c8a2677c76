"""grpc.health.v1 with the server's readiness, which is read for each request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from streamer.access import Proxies
from streamer.connection.admission import network_of
from streamer.inference.contract import Readiness
from streamer.transports.grpc.transport import client_of

HealthContext = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

POLL_INTERVAL_S = 0.5
"""Time in seconds after which a watcher learns of a change."""
MAX_WATCHERS = 1_000
"""Maximum watches of all addresses. A watch costs memory, and CPU only when something changes."""


class Health(health_pb2_grpc.HealthServicer):
    """Reports SERVING if new sessions can be accepted: a model worker is available, and the server is not draining."""

    def __init__(
        self,
        readiness: Callable[[], Readiness],
        services: frozenset[str],
        max_per_address: float,
        proxies: Proxies | None = None,
    ) -> None:
        """Create the service.

        `services`: names that may be queried, including "" (the whole server). `max_per_address`: watches of one IPv4
        address or IPv6 /64. `proxies`: trusted ones.
        """
        self._proxies = proxies or Proxies()
        self._readiness = readiness
        self._services = services
        self._max_per_address = max_per_address
        self._watchers: Counter[str] = Counter()
        """Watches by address."""
        self._was_ready: bool | None = None
        self._changed = asyncio.Event()
        """Set, and replaced by another one, when readiness changes or the server stops."""
        self._looking: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """End all watches, so that the server can stop."""
        self._is_stopped = True
        if self._looking is not None:
            self._looking.cancel()
        self._wake()

    async def Check(self, request: HealthCheckRequest, context: HealthContext) -> HealthCheckResponse:  # noqa: N802
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}")
        return self._status(request.service)

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: HealthContext
    ) -> AsyncIterator[HealthCheckResponse]:
        network = network_of(client_of(context, self._proxies))
        if (problem := self._full(network)) is not None:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, problem)
        with self._watching(network):
            last_status = None
            while not self._is_stopped:
                changed = self._changed
                status = self._status(request.service)
                if status != last_status:
                    yield status
                    last_status = status
                await changed.wait()

    def _full(self, network: str) -> str | None:
        """Return the reason why another watch is refused; None if it is accepted."""
        if self._watchers[network] >= self._max_per_address:
            return f"this address has reached its limit of {self._max_per_address:g} health watches"
        if self._watchers.total() >= MAX_WATCHERS:
            return f"the server has reached its limit of {MAX_WATCHERS} health watches"
        return None

    @contextmanager
    def _watching(self, network: str) -> Iterator[None]:
        """Count a watch, and check for changes while there is one."""
        self._watchers[network] += 1
        if self._looking is None:
            self._look()
        try:
            yield
        finally:
            self._watchers[network] -= 1
            if not self._watchers[network]:
                del self._watchers[network]

    def _status(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status="SERVICE_UNKNOWN")
        return HealthCheckResponse(status="SERVING" if self._is_ready() else "NOT_SERVING")

    def _is_ready(self) -> bool:
        """Return whether the server is ready. A change wakes all watches."""
        ready = self._readiness().ready
        if ready != self._was_ready:
            self._was_ready = ready
            self._wake()
        return ready

    def _look(self) -> None:
        self._is_ready()
        keep_looking = self._watchers and not self._is_stopped
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(POLL_INTERVAL_S, self._look) if keep_looking else None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
