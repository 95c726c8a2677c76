"""Rows 21, 28 and 32 of the fault table: too fast, too many at once, and a clock that cannot be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from tests.faults.arena import SECOND, Arena
from tests.faults.ends import STOPPED, Ends
from tests.faults.raw import raw, started

pytestmark = pytest.mark.asyncio(loop_scope="module")

CROWD = 300
AHEAD_S = 2.0


class Watched(Arena):
    """A server of which we hear how its sessions end."""

    def __init__(self, app: App, ends: Ends) -> None:
        super().__init__(app)
        self.ends = ends


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Watched]:
    settings = Settings(
        server={"port": 0, "max_sessions": CROWD + 10},
        session={"stall_timeout_s": 0},  # the neighbour pauses for as long as a fault takes
        model={"delay": 0.0, "constant_factor": 0.005, "jitter": 0.0, "warmup_penalty": 0.0},
        limits={"audio_ahead_s": AHEAD_S},
    )
    async with App(settings) as app:
        arena = Watched(app, Ends(app.registry))
        async with arena.healthy_session():  # what a session hears when it is alone
            pass
        with arena.ends.listening():
            yield arena


# Row 21 -------------------------------------------------------------------------------------------


async def test_a_client_a_hundred_times_faster_is_slowed_and_loses_nothing(arena: Watched) -> None:
    seconds = 100
    arena.ends.begin()
    async with arena.peer("v2") as peer:
        await peer.start(chunk_ms=1_000)
        sending = asyncio.create_task(peer.audio(SECOND * seconds, cut=32_000))
        deepest = 0.0
        while not sending.done():
            deepest = max(deepest, arena.app.engine.depth.pending_seconds)
            await asyncio.sleep(0.01)
        await sending
        await peer.stop()
        heard = await peer.rest()
    assert not [event for event in heard if event["type"] == "error"]
    assert (heard[-1]["received"], heard[-1]["processed"]) == (seconds * 16_000, seconds * 16_000)
    assert peer.socket.close_code == 1000
    (record,) = await arena.ends.ended(STOPPED)
    assert record.held > 0
    assert deepest <= AHEAD_S + 2  # a message more, and a piece more


# Row 28 -------------------------------------------------------------------------------------------


async def test_a_clock_that_jumps_by_an_hour_changes_nothing(arena: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = time.time
    async with arena.peer("v2") as peer:
        await peer.start()
        for jump in (3_600, -3_600, 0):
            monkeypatch.setattr(time, "time", lambda jump=jump: truth() + jump)
            await peer.audio(SECOND)
            await asyncio.sleep(0.1)
        await peer.stop()
        heard = await peer.rest()
    assert not [event for event in heard if event["type"] == "error"]
    assert heard[-1]["processed"] == 48_000


# Row 32 -------------------------------------------------------------------------------------------


async def test_a_crowd_that_is_cut_off_and_comes_back_at_once_is_back_and_disturbs_nobody(arena: Watched) -> None:
    async with arena.peer("v2") as live:
        await live.start()
        for _ in range(3):
            await live.audio(SECOND)
            async with AsyncExitStack() as stack:  # left by an RST each
                arrivals = [stack.enter_async_context(raw(arena.app.port)) for _ in range(CROWD)]
                crowd = await asyncio.gather(*arrivals)
                await asyncio.gather(*(started(peer) for peer in crowd))
                assert len(arena.app.conductor) == CROWD + 2
        await live.stop()
        heard = await live.rest()
    assert heard[-1]["processed"] == 48_000


async def test_one_more_than_all_is_told_when_to_come_back(arena: Watched) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CROWD + 9):
            await stack.enter_async_context(arena.peer("v2"))
        async with aiohttp.ClientSession() as http, http.get(arena.app.url + "/api/v2/simple") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"
            assert (await response.json())["code"] == "overloaded"
