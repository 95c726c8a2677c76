"""/metrics: written in slices, one scrape at a time, and at most ten per second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import Metric

from streamer.access import Authenticator, Forbidden
from streamer.access.factory import MetricsPolicy
from streamer.errors import Overloaded, StreamerError
from streamer.telemetry.exposition import ExpositionFormat, write_text
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.http import Handler, credential_of, failure, observe_errors, refusal

Collect = Callable[[], Awaitable[Iterable[Metric]]]

INTERVAL_S = 0.1
"""Seconds between the starts of two scrapes. One takes some 3 ms: a thirtieth of the loop's time."""
MAX_INTERVAL_S = 1.0
"""The same for many processes, each of which takes part in all scrapes."""
MAX_WAITING = 20
"""Requests that may wait for an answer; more are refused."""

_TO_OPEN = (
    "Send a key (Authorization: Bearer ...), set server.metrics_address to a private address, or set "
    "server.metrics to open"
)

log = logging.getLogger(__name__)


class Scrapes:
    """Answers the scrapes of one server. Requests that arrive while a scrape waits or runs share it."""

    def __init__(self, collect: Collect, processes: int = 1) -> None:
        """Create the queue. `processes`: number of processes that are scraped together."""
        self._interval_s = min(INTERVAL_S * processes, MAX_INTERVAL_S)
        self._collect = collect
        self._running: dict[ExpositionFormat, asyncio.Task[bytes]] = {}
        self._lock = asyncio.Lock()
        self._next_at = 0.0
        self.waiting = 0
        """Number of requests without an answer."""

    async def answer(self, format: ExpositionFormat) -> bytes:
        """Return the metrics as text. Raises Overloaded, and the errors of `collect`."""
        if self.waiting >= MAX_WAITING:
            raise Overloaded(f"the server has reached its limit of {MAX_WAITING} waiting scrapes")
        self.waiting += 1
        try:
            return await asyncio.shield(self._scrape(format))
        finally:
            self.waiting -= 1

    def _scrape(self, format: ExpositionFormat) -> asyncio.Task[bytes]:
        task = self._running.get(format)
        if task is None:
            task = self._running[format] = asyncio.create_task(self._write(format), name="scrape")
            task.add_done_callback(_retrieve)
        return task

    async def _write(self, format: ExpositionFormat) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            async with self._lock:
                await asyncio.sleep(self._next_at - loop.time())
                self._next_at = loop.time() + self._interval_s
                return await write_text(await self._collect(), format)
        finally:
            del self._running[format]


def _retrieve(task: asyncio.Task[bytes]) -> None:
    """Retrieve the error of a scrape that no request waits for."""
    if not task.cancelled():
        task.exception()


def metrics_route(
    scrapes: Scrapes, observer: Observer, policy: MetricsPolicy, authenticator: Authenticator
) -> web.RouteDef:
    """Return the route of the metrics, as Prometheus text or OpenMetrics.

    It answers 503 if a process cannot answer or too many requests wait. A refusal by the policy names the settings.
    """

    async def metrics(request: web.Request) -> web.StreamResponse:
        kind = ExpositionFormat.accepted(request.headers.get("Accept", ""))
        try:
            body = await scrapes.answer(kind)
        except TimeoutError:
            return failure("no metrics", "the supervisor of this process does not answer")
        except Overloaded as error:
            response = refusal(error)
            response.force_close()  # a client that pipelines requests must reconnect
            return response
        return web.Response(body=body, headers={"Content-Type": kind.value})

    handler = metrics if policy is MetricsPolicy.OPEN else _guarded(metrics, policy, authenticator)
    return web.get("/metrics", observe_errors(handler, observer, Subsystem.METRICS))


def _guarded(handler: Handler, policy: MetricsPolicy, authenticator: Authenticator) -> Handler:
    """Return the handler with the policy of the metrics."""

    async def ask(request: web.Request) -> web.StreamResponse:
        try:
            if policy is MetricsPolicy.CLOSED:
                raise Forbidden("the address is public and no keys are set")
            await authenticator.verify(credential_of(request))
        except StreamerError as error:
            message = f"/metrics is closed: {error.message}. {_TO_OPEN}"
            log.warning("%s", message)
            return refusal(StreamerError(message, code=error.code))
        return await handler(request)

    return ask
