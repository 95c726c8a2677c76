"""grpc.health.v1 with the server's readiness, which is read for each request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from streamer.access import Proxies
from streamer.connection.admission import network_of
from streamer.connection.hosted_model import HostedModel
from streamer.connection.model_pool import ModelPool
from streamer.inference.contract import Readiness
from streamer.transports.grpc.transport import client_of

HealthContext = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

POLL_INTERVAL_S = 0.5
"""Time in seconds after which a watcher learns of a change."""
MAX_WATCHERS = 1_000
"""Maximum watches of all addresses. A watch costs memory, and CPU only when something changes."""


def health_services(
    service: str, readiness: Callable[[], Readiness], models: ModelPool | None
) -> dict[str, Callable[[], Readiness]]:
    """Return the readiness of each name that may be queried: "", the service, and `models/NAME` of several models."""

    def of(model: HostedModel) -> Readiness:
        now = readiness()
        return model.readiness if now.ready else now

    each = {} if models is None else {f"models/{name}": partial(of, models.named(name)) for name in models.names}
    return {"": readiness, service: readiness, **each}


class Health(health_pb2_grpc.HealthServicer):
    """Reports SERVING if new sessions can be accepted: a model worker is available, and the server is not draining."""

    def __init__(
        self, services: Mapping[str, Callable[[], Readiness]], max_per_address: float, proxies: Proxies | None = None
    ) -> None:
        """Create the service.

        `services`: readiness of each name that may be queried, including "" (the whole server). `max_per_address`:
        watches of one IPv4 address or IPv6 /64. `proxies`: trusted ones.
        """
        self._proxies = proxies or Proxies()
        self._services = services
        self._max_per_address = max_per_address
        self._watchers: Counter[str] = Counter()
        """Watches by address."""
        self._was_ready: dict[str, bool] = {}
        """Last known readiness by service."""
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
        return HealthCheckResponse(status="SERVING" if self._is_ready(service) else "NOT_SERVING")

    def _is_ready(self, service: str) -> bool:
        """Return whether a service is ready. A change wakes all watches."""
        ready = self._services[service]().ready
        if ready != self._was_ready.get(service):
            self._was_ready[service] = ready
            self._wake()
        return ready

    def _look(self) -> None:
        for service in self._services:
            self._is_ready(service)
        keep_looking = self._watchers and not self._is_stopped
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(POLL_INTERVAL_S, self._look) if keep_looking else None

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
