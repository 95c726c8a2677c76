"""Around a fault on a real server process: a healthy session beside it, and its own account of what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from streamer.client import Event, Finished, Segment, Started, Stream, connect
from tests.faults.arena import SECOND, WEATHER
from tests.faults.served import Served

HELD = ("streamer_sessions_active", "streamer_inference_pending", "streamer_audio_buffered_bytes", "streamer_workers")
"""What must be after a fault as it was before."""


def stream(server: Served, mode: str = "simple", **start: Any) -> Any:
    """A client's stream over v2."""
    return connect(f"{server.url}/api/v2/{mode}", **start)


async def rest(stream: Stream) -> list[Event]:
    """Everything until the stream is finished."""
    async with asyncio.timeout(20):
        return [event async for event in stream]


async def answered(server: Served, seconds: int = 1, **options: Any) -> list[Event]:
    """So much audio, in pieces of a second, and what the server says of it."""
    async with stream(server, options=options, chunk_ms=1_000) as one:
        await one.send(SECOND * seconds)
        await one.stop()
        return await rest(one)


def total(metrics: Mapping[str, float], name: str, **labels: str) -> float:
    """The sum over all series of this name that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for series, value in metrics.items()
        if series.partition("{")[0] == name and all(pair in series for pair in wanted)
    )


def holds(metrics: Mapping[str, float]) -> dict[str, float]:
    return {series: value for series, value in metrics.items() if series.startswith(HELD)}


@asynccontextmanager
async def neighbour(server: Served) -> AsyncIterator[None]:
    """A session that begins before the fault and ends after it, and hears both its utterances."""
    half = len(WEATHER) // 4 * 2
    async with stream(server, "segmented") as healthy:
        await healthy.send(WEATHER[:half])
        yield
        await healthy.send(WEATHER[half:])
        await healthy.stop()
        heard = await rest(healthy)
    finals = [event for event in heard if isinstance(event, Segment)]
    assert isinstance(heard[0], Started)
    assert [final.output["count"] for final in finals] == [
        round((final.end_time - final.start_time) * 16_000) for final in finals
    ]
    assert len(finals) == 2
    assert isinstance(heard[-1], Finished)
    assert (heard[-1].failed, heard[-1].received) == (0, len(WEATHER) // 2)


@asynccontextmanager
async def unharmed(server: Served) -> AsyncIterator[dict[str, float]]:
    """A neighbour beside the fault; afterwards nothing is left of it. Yields the metrics of before."""
    await server.until_ready()
    before = await server.metrics()
    async with neighbour(server):
        yield before
    async with asyncio.timeout(20):
        while holds(await server.metrics()) != holds(before):
            await asyncio.sleep(0.05)
        while (await server.metrics())["process_open_fds"] > before["process_open_fds"]:
            await asyncio.sleep(0.05)
    assert total(await server.metrics(), "streamer_task_failures_total") == 0
    assert (await server.probe()).status == 200
