"""A real server process under test: what it holds by its own account, and how a model's faults look to a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.faults.arena import Arena, declared
from tests.faults.fault import Fault
from tests.faults.peers import SECOND, Events
from tests.faults.served import ServerProcess, served
from tests.faults.sight import Line

HELD = ("streamer_sessions_active", "streamer_inference_pending", "streamer_audio_buffered_bytes", "streamer_workers")
"""What must be after a fault as it was before; and so must the tasks that run."""


class RemoteArena(Arena):
    """A server in a process of its own, as its operator sees it."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.server = server
        self._last: list[Sample] = []
        self._ends = False

    def port_of(self, way: str) -> int:
        address = self.server.grpc_target if way == "grpc" else self.server.url
        return int(address.rpartition(":")[2])

    async def samples(self) -> Iterable[Sample]:
        """As it says now; of a server that has ended, what it said last."""
        try:
            text = await self.server.metrics_text()
        except aiohttp.ClientError:
            assert self.server.process.returncode is not None or self._ends
            return self._last
        families = text_string_to_metric_families(text)
        self._last = [sample for family in families for sample in family.samples]
        return self._last

    def records(self) -> Sequence[Line]:
        return self.server.records()

    async def settled(self) -> Mapping[str, float]:
        await self.server.until_ready()
        return await self.server.metrics()

    async def counts_back_at(self, before: Mapping[str, float]) -> None:
        async with asyncio.timeout(20):
            while holds(await self.server.metrics()) != holds(before):
                await asyncio.sleep(0.05)
            while (await self.server.metrics())["process_open_fds"] > before["process_open_fds"]:
                await asyncio.sleep(0.05)
        assert (await self.server.probe()).status == 200

    @asynccontextmanager
    async def ending(self, item: pytest.Item) -> AsyncIterator[None]:
        """Around a fault that is the server's own end: it is looked at for as long as it answers."""
        row, expected, _ = declared(item)
        await self.sight.begin()
        self._ends = True
        looking = asyncio.create_task(self._looks())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        await self.sight.shows(expected)
        item.user_properties.append(self.sight.summed_up(less=Fault()).to_property(row))

    async def _looks(self) -> None:
        while True:
            await self.samples()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def remote(
    *arguments: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[RemoteArena]:
    """`streamer serve ARGUMENTS` over both transports; settings as `section__key`."""
    words = [word for name, value in settings.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
    async with served(*arguments, "--grpc-port", "-1", *words, environment=environment) as server:
        arena = RemoteArena(server)
        await arena.listen_alone()
        yield arena


async def answered(arena: Arena, way: str, seconds: int = 1, **options: Any) -> Events:
    """So much audio, in pieces of a second, and what the server says of it."""
    async with arena.peer(way) as peer:
        await peer.start(options=options, chunk_ms=1_000)
        await peer.audio(SECOND * seconds, cut=32_000)
        await peer.stop()
        return await peer.rest()


def failure(heard: Events) -> dict[str, Any]:
    """The only error: it names the second that has no answer, and the stream went on to its end."""
    [error] = [event for event in heard if event["type"] == "error"]
    assert (error["fatal"], error["channel"], error["start_time"], error["end_time"]) == (False, 0, 0.0, 1.0)
    finished = heard[-1]
    assert finished["type"] == "finished"
    assert (finished["received"], finished["processed"], finished["failed"]) == (16_000, 0, 1)
    return error


def counts(heard: Events) -> list[int]:
    """What the model said of each segment."""
    return [event["output"]["count"] for event in heard if event["type"] == "segment"]


def total(metrics: Mapping[str, float], name: str, **labels: str) -> float:
    """The sum over all series of this name that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for series, value in metrics.items()
        if series.partition("{")[0] == name and all(pair in series for pair in wanted)
    )


def holds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Series of what a server holds."""
    held = {series: value for series, value in metrics.items() if series.startswith(HELD)}
    begun, over = (total(metrics, f"streamer_tasks_{what}_total") for what in ("instrumented", "dropped"))
    return held | {"tasks": begun - over}
