"""Scrapers of one server: they share its answers, have a small part of its time, and too many are sent away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import Metric

from streamer.access import Authenticator
from streamer.access.factory import MetricsPolicy
from streamer.telemetry.observer import Observer
from streamer.telemetry.telemetry import Telemetry
from streamer.transports.scrapes import INTERVAL_S, MAX_INTERVAL_S, MAX_WAITING, Scrapes, metrics_route
from tests.transports.serving import serving

TIMER_S = 0.002
"""What a timer of the loop may be early by."""


class Source:
    """Metrics whose collection a test can hold up, and watch."""

    def __init__(self) -> None:
        self.telemetry = Telemetry("stub")
        self.began: list[float] = []
        self.running = 0
        self.most_at_once = 0
        self.open = asyncio.Event()
        self.open.set()

    async def collect(self) -> Iterable[Metric]:
        self.began.append(asyncio.get_running_loop().time())
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            await self.open.wait()
            return await self.telemetry.collect()
        finally:
            self.running -= 1


@asynccontextmanager
async def scraped(processes: int = 1) -> AsyncIterator[tuple[Source, aiohttp.ClientSession, Scrapes]]:
    """A server that has nothing but metrics, and a client of it."""
    source, application = Source(), web.Application()
    scrapes = Scrapes(source.collect, processes)
    application.add_routes([metrics_route(scrapes, Observer(), MetricsPolicy.OPEN, Authenticator(None, time.time))])
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        TestServer(application) as server,
        aiohttp.ClientSession(server.make_url("/"), connector=connector) as client,
    ):
        yield source, client, scrapes


async def scrape(client: aiohttp.ClientSession, accept: str = "") -> tuple[int, str]:
    async with client.get("/metrics", headers={"Accept": accept}) as response:
        return response.status, await response.text()


async def test_scrapers_that_come_together_share_an_answer() -> None:
    async with scraped() as (source, client, scrapes):
        source.open.clear()
        asking = [asyncio.create_task(scrape(client)) for _ in range(MAX_WAITING)]
        while scrapes.waiting < MAX_WAITING:
            await asyncio.sleep(0.01)
        source.open.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _ in answers} == {200}
        assert len(source.began) == 1
        assert "streamer_sessions_active" in answers[0][1]


async def test_one_scrape_runs_at_a_time_whatever_its_format() -> None:
    async with scraped() as (source, client, _):
        await asyncio.gather(*(scrape(client, accept) for accept in ("", "application/openmetrics-text") * 5))
        assert source.most_at_once == 1


@pytest.mark.parametrize(("processes", "interval_s"), [(1, INTERVAL_S), (3, 3 * INTERVAL_S), (256, MAX_INTERVAL_S)])
async def test_scrapes_begin_so_far_apart_that_scrapers_have_a_small_part_of_the_loop(
    processes: int, interval_s: float
) -> None:
    async with scraped(processes) as (source, client, _):
        for _ in range(3):
            assert (await scrape(client))[0] == 200
        pauses = [later - earlier for earlier, later in zip(source.began, source.began[1:], strict=False)]
        assert len(pauses) == 2
        assert min(pauses) >= interval_s - TIMER_S


async def test_more_scrapers_than_may_wait_are_sent_away_and_told_when_to_return() -> None:
    async with scraped() as (source, client, _):
        source.open.clear()
        asking = {asyncio.create_task(scrape(client)) for _ in range(MAX_WAITING + 5)}
        sent_away: set[asyncio.Task[tuple[int, str]]] = set()
        while len(sent_away) < 5:
            done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            sent_away |= done
        assert {task.result()[0] for task in sent_away} == {503}
        async with client.get("/metrics") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert response.headers["Connection"] == "close"
        source.open.set()
        assert {(await task)[0] for task in asking} == {200}


async def test_a_scraper_that_goes_takes_no_answer_from_the_others() -> None:
    async with scraped() as (source, client, _):
        source.open.clear()
        first, second = (asyncio.create_task(scrape(client)) for _ in range(2))
        while not source.running:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        source.open.set()
        assert (await second)[0] == 200


async def test_requests_that_do_not_wait_for_answers_are_answered_one_by_one() -> None:
    """HTTP pipelining: each has its answer, and the scrapes of one connection are as far apart as those of many."""
    async with scraped() as (source, client, _):
        assert client._base_url is not None
        reader, writer = await asyncio.open_connection(client._base_url.host, client._base_url.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()
        pauses = [later - earlier for earlier, later in zip(source.began, source.began[1:], strict=False)]
        assert len(pauses) == 2
        assert min(pauses) >= INTERVAL_S - TIMER_S


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=abc", "text/plain; version=x", ";;,,=,"])
async def test_an_accept_that_makes_no_sense_gets_text(accept: str) -> None:
    async with serving() as app, aiohttp.ClientSession(app.url) as client:
        status, text = await scrape(client, accept)
        assert (status, "streamer_sessions_active" in text) == (200, True)
        assert not app.registry.get_sample_value("streamer_task_failures_total", {"subsystem": "metrics"})
