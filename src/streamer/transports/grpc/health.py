"""grpc.health.v1 as the server's readiness has it, asked anew each time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from streamer.inference.contract import Readiness

Call = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]

LOOK_AGAIN_S = 0.5
"""How long a watcher may not know of a change."""
MAX_WATCHERS = 100


class Health(health_pb2_grpc.HealthServicer):
    """SERVING while new work should be sent here: a model worker answers, and the server is not draining.

    `services`: the names that can be asked for, "" (the server as a whole) among them.
    """

    def __init__(self, readiness: Callable[[], Readiness], services: frozenset[str]) -> None:
        self._readiness = readiness
        self._services = services
        self._watchers = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Let the watchers go, so that the server can."""
        self._stopped.set()

    async def Check(self, request: HealthCheckRequest, context: Call) -> HealthCheckResponse:  # noqa: N802
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return self._status(request.service)

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Call
    ) -> AsyncIterator[HealthCheckResponse]:
        if self._watchers >= MAX_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} watch already, which is all")
        self._watchers += 1
        try:
            told = None
            while not self._stopped.is_set():
                status = self._status(request.service)
                if status != told:
                    yield status
                    told = status
                await self._stopped_within(LOOK_AGAIN_S)
        finally:
            self._watchers -= 1

    def _status(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status="SERVICE_UNKNOWN")
        return HealthCheckResponse(status="SERVING" if self._readiness().ready else "NOT_SERVING")

    async def _stopped_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
