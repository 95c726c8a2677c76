"""Rows 21, 28 and 32 of the fault table: too fast, too many at once, and a clock that cannot be trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from tests.faults.arena import WEATHER, LocalArena
from tests.faults.fault import CLOSED, SOME, Fault, fault, gone, harmless, refusal
from tests.faults.peers import SECOND, TRANSPORTS
from tests.faults.raw import started
from tests.faults.servers import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("way", TRANSPORTS)

CROWD = 300
AHEAD_S = 2.0
UTTERANCE_S = len(WEATHER) / 32_000 / 2
MODEL = {"delay": 0.0, "constant_factor": 0.005, "jitter": 0.0, "warmup_penalty": 0.0}
HELD = Fault(counted={"clients_held": SOME})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    async with serving(
        # The crowd is of one address, and sends no audio: what that may cost is a rule of its own.
        server={"max_sessions": CROWD + 10, "max_control_share_per_address": 0},
        session={"stall_timeout_s": 0},  # the neighbour pauses for as long as a fault takes
        model=MODEL,
        limits={"audio_ahead_s": AHEAD_S},
    ) as arena:
        yield arena


# Row 21 -------------------------------------------------------------------------------------------


@fault(21, harmless(received_s=100.0, failed=0) + HELD)
@both
async def test_a_client_a_hundred_times_faster_is_slowed_and_loses_nothing(arena: LocalArena, way: str) -> None:
    seconds = 100
    async with arena.peer(way) as peer:
        await peer.start(chunk_ms=1_000)
        sending = asyncio.create_task(peer.audio(SECOND * seconds, cut=32_000))
        deepest = 0.0
        while not sending.done():
            deepest = max(deepest, arena.app.engine.depth.pending_seconds)
            await asyncio.sleep(0.01)
        await sending
        await peer.stop()
        heard = await peer.rest()
    assert (heard[-1]["received"], heard[-1]["processed"]) == (seconds * 16_000, seconds * 16_000)
    assert deepest <= AHEAD_S + 2 + UTTERANCE_S  # a message more, and a piece more; and what the neighbour has said


# Row 28 -------------------------------------------------------------------------------------------


@fault(28, harmless(received_s=3.0))
@both
async def test_a_clock_that_jumps_by_an_hour_changes_nothing(
    arena: LocalArena, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = time.time
    async with arena.peer(way) as peer:
        await peer.start(chunk_ms=1_000)
        for jump in (3_600, -3_600, 0):
            monkeypatch.setattr(time, "time", lambda jump=jump: truth() + jump)
            await peer.audio(SECOND)
            await peer.hear("segment")
        await peer.stop()
        assert (await peer.rest())[-1]["processed"] == 48_000


# Row 32 -------------------------------------------------------------------------------------------


@fault(32, harmless(received_s=3.0) + gone(received_s=0.0) * CROWD * 3)
async def test_a_crowd_that_is_cut_off_and_comes_back_at_once_is_back_and_disturbs_nobody(arena: LocalArena) -> None:
    async with arena.peer("v2") as live:
        await live.start()
        for time_ in range(1, 4):
            await live.audio(SECOND)
            async with AsyncExitStack() as stack:  # left by an RST each
                arrivals = [stack.enter_async_context(arena.raw()) for _ in range(CROWD)]
                crowd = await asyncio.gather(*arrivals)
                await asyncio.gather(*(started(peer) for peer in crowd))
                assert len(arena.app.connections) == CROWD + 2
            await arena.sight.until(CLOSED, time_ * CROWD)  # the server may see them go after they have come back
        await live.stop()
        assert (await live.rest())[-1]["processed"] == 48_000


@fault(32, gone(received_s=0.0) * (CROWD + 9) + refusal(ErrorCode.OVERLOADED, 2))
async def test_one_more_than_all_is_told_when_to_come_back(arena: LocalArena) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(CROWD + 9):
            await stack.enter_async_context(arena.raw())
        async with aiohttp.ClientSession() as http, http.get(arena.app.url + "/api/v2/simple") as response:
            assert response.status == 503
            assert response.headers["Retry-After"] == "5"
            assert (await response.json())["code"] == "overloaded"
        async with arena.call() as peer:
            assert await peer.receive() == "overloaded"
            assert dict(await peer.call.trailing_metadata())["retry-after-ms"] == "5000"
