"""/metrics: written down in pieces, once at a time for whoever asks, and at most ten times a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from prometheus_client import Metric

from streamer.access import Door, Forbidden
from streamer.errors import Overloaded, StreamerError
from streamer.runtime.doorway import MetricsPolicy
from streamer.telemetry.exposition import Format, written
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.http import Handler, credential_of, failure, refusal, watched

Collect = Callable[[], Awaitable[Iterable[Metric]]]

INTERVAL_S = 0.1
"""From the begin of a scrape to that of the next. One costs some 3 ms: scrapers have a thirtieth of the loop."""
MAX_INTERVAL_S = 1.0
"""The same for many processes, of which each has a part in the scrapes of all."""
MAX_WAITING = 20
"""Requests that wait for an answer; more are sent away."""

_TO_OPEN = (
    "Send a key (Authorization: Bearer ...), set server.metrics_address to a private address, or set "
    "server.metrics to open"
)

log = logging.getLogger(__name__)


class Scrapes:
    """Answers of one server to its scrapers. Those that come while a scrape waits or runs share it."""

    def __init__(self, collect: Collect, processes: int = 1) -> None:
        """`processes`: how many serve together, and are scraped together."""
        self._interval_s = min(INTERVAL_S * processes, MAX_INTERVAL_S)
        self._collect = collect
        self._running: dict[Format, asyncio.Task[bytes]] = {}
        self._turn = asyncio.Lock()
        self._next_at = 0.0
        self.waiting = 0
        """Requests that have no answer yet."""

    async def answer(self, format: Format) -> bytes:
        """The metrics as text. Raises Overloaded, and whatever `collect` raises."""
        if self.waiting >= MAX_WAITING:
            raise Overloaded(f"the server has reached its limit of {MAX_WAITING} waiting scrapes")
        self.waiting += 1
        try:
            return await asyncio.shield(self._scrape(format))
        finally:
            self.waiting -= 1

    def _scrape(self, format: Format) -> asyncio.Task[bytes]:
        task = self._running.get(format)
        if task is None:
            task = self._running[format] = asyncio.create_task(self._write(format), name="scrape")
            task.add_done_callback(_retrieve)
        return task

    async def _write(self, format: Format) -> bytes:
        loop = asyncio.get_running_loop()
        try:
            async with self._turn:
                await asyncio.sleep(self._next_at - loop.time())
                self._next_at = loop.time() + self._interval_s
                return await written(await self._collect(), format)
        finally:
            del self._running[format]


def _retrieve(task: asyncio.Task[bytes]) -> None:
    """Take the error of a scrape that nobody waits for any more, which nobody has to be told."""
    if not task.cancelled():
        task.exception()


def metrics_route(scrapes: Scrapes, observer: Observer, policy: MetricsPolicy, door: Door) -> web.RouteDef:
    """The metrics, as Prometheus text or OpenMetrics if asked for; 503 if a process cannot answer, or too many ask.

    Whom the policy keeps out is told what to set.
    """

    async def metrics(request: web.Request) -> web.StreamResponse:
        kind = Format.accepted(request.headers.get("Accept", ""))
        try:
            body = await scrapes.answer(kind)
        except TimeoutError:
            return failure("no metrics", "the supervisor of this process does not answer")
        except Overloaded as error:
            response = refusal(error)
            response.force_close()  # whoever sends requests without waiting for answers has to connect again
            return response
        return web.Response(body=body, headers={"Content-Type": kind.value})

    handler = metrics if policy is MetricsPolicy.OPEN else _guarded(metrics, policy, door)
    return web.get("/metrics", watched(handler, observer, Subsystem.METRICS))


def _guarded(handler: Handler, policy: MetricsPolicy, door: Door) -> Handler:
    """The same handler for those whom the policy lets read the metrics."""

    async def ask(request: web.Request) -> web.StreamResponse:
        try:
            if policy is MetricsPolicy.CLOSED:
                raise Forbidden("the address is public and no keys are set")
            door.show(credential_of(request))
        except StreamerError as error:
            message = f"/metrics is closed: {error.message}. {_TO_OPEN}"
            log.warning("%s", message)
            return refusal(StreamerError(message, code=error.code))
        return await handler(request)

    return ask
