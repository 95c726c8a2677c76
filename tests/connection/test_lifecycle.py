"""The stages of a server, and what a drain does to sessions that end, linger, or hang."""

from __future__ import annotations

import asyncio

import pytest

from streamer.config import DrainSettings
from streamer.connection.admission import Admission, NotServing
from streamer.connection.lifecycle import Lifecycle, LifecycleStage
from streamer.errors import ErrorCode, Overloaded, StreamerError
from tests.connection.in_memory_server import SECOND, START, hear, kinds, turns
from tests.connection.in_memory_server import InMemoryServer as Theatre

AT_ONCE = DrainSettings(lag_s=0, soft_s=0, spread_s=0, hard_s=30)


def staged() -> tuple[Theatre, Admission, Lifecycle]:
    theatre = Theatre()
    admission = Admission(10, theatre.engine, retry_after_s=1.0)
    return theatre, admission, Lifecycle(admission, theatre.manager, theatre.engine)


async def test_a_server_takes_sessions_when_it_is_ready_and_not_before() -> None:
    _, admission, lifecycle = staged()
    assert (lifecycle.stage, lifecycle.readiness.ready) == (LifecycleStage.STARTING, False)
    with pytest.raises(Overloaded), admission.acquire():
        pass
    lifecycle.set_ready()
    assert lifecycle.readiness.ready
    with admission.acquire():
        assert admission.active == 1
    assert admission.active == 0


async def test_while_load_balancers_notice_sessions_are_still_taken() -> None:
    _, admission, lifecycle = staged()
    lifecycle.set_ready()
    draining = asyncio.create_task(lifecycle.drain(AT_ONCE, lag_s=0.05))
    await turns(1)
    assert (lifecycle.readiness.ready, lifecycle.readiness.reason) == (False, "draining")
    with admission.acquire():
        pass
    assert await draining == 0
    with pytest.raises(NotServing), admission.acquire():
        pass


async def test_sessions_that_end_by_themselves_are_not_touched() -> None:
    theatre, _, lifecycle = staged()
    client = theatre.connect()
    await client.send(START)
    await turns()
    draining = asyncio.create_task(lifecycle.drain(DrainSettings(soft_s=30, hard_s=30), lag_s=0))
    await turns()
    await client.send('{"type":"stop"}')
    assert kinds(await hear(client)) == ["started", "draining", "finished"]
    assert client.close_info is not None
    assert client.close_info.code is None
    assert await draining == 0
    await theatre.over()


async def test_sessions_that_linger_are_finished_with_their_results() -> None:
    theatre, _, lifecycle = staged()
    clients = [theatre.connect() for _ in range(5)]
    for client in clients:
        await client.send(START)
        await client.send(SECOND)
    await turns()
    assert await lifecycle.drain(AT_ONCE, lag_s=0) == 0
    for client in clients:
        assert kinds(await hear(client)).count("segment") == 2
        assert client.close_info is not None
        assert client.close_info.code is ErrorCode.DRAINING
    await theatre.over()


async def test_sessions_whose_model_hangs_are_cut_off_at_the_hard_end_and_counted() -> None:
    theatre, _, lifecycle = staged()
    theatre.scripted.is_holding = True
    client = theatre.connect()
    await client.send(START)
    await client.send(SECOND)
    await turns()
    assert await lifecycle.drain(DrainSettings(lag_s=0, soft_s=0, spread_s=0, hard_s=0.05), lag_s=0) == 1
    await theatre.over()
    assert client.close_info is not None
    assert client.close_info.aborted


@pytest.mark.parametrize(("late_s", "cut_off"), [(60, 0), (90, 1)])
async def test_the_times_of_a_drain_count_from_when_it_was_asked_for(late_s: float, cut_off: int) -> None:
    """A busy loop hears of a signal late."""
    theatre, _, lifecycle = staged()
    client = theatre.connect()
    await client.send(START)
    await turns()
    assert await lifecycle.drain(DrainSettings(soft_s=60, hard_s=90), lag_s=0, late_s=late_s) == cut_off
    await theatre.over()
    assert client.close_info is not None
    assert client.close_info.aborted == bool(cut_off)


@pytest.mark.parametrize(("hard_s", "late_s"), [(0.05, 0), (3_600, 7_200)])
async def test_the_hard_end_holds_while_sessions_are_still_taken(hard_s: float, late_s: float) -> None:
    theatre, admission, lifecycle = staged()
    lifecycle.set_ready()
    client = theatre.connect()
    await client.send(START)
    await turns()
    times = DrainSettings(lag_s=0, soft_s=0, spread_s=0, hard_s=hard_s)
    assert await lifecycle.drain(times, lag_s=3_600, late_s=late_s) == 1
    with pytest.raises(NotServing), admission.acquire():
        pass
    await theatre.over()
    assert client.close_info is not None
    assert client.close_info.aborted


async def test_the_hard_end_holds_while_streams_are_still_being_finished() -> None:
    theatre, _, lifecycle = staged()
    clients = [theatre.connect() for _ in range(3)]
    for client in clients:
        await client.send(START)
    await turns()
    assert await lifecycle.drain(DrainSettings(lag_s=0, soft_s=0, spread_s=3_600, hard_s=0.05), lag_s=0) == 2
    await theatre.over()
    assert sorted(client.close_info.aborted for client in clients if client.close_info) == [False, True, True]


async def test_a_broken_server_ends_its_sessions_and_takes_no_more() -> None:
    theatre, admission, lifecycle = staged()
    lifecycle.set_ready()
    client = theatre.connect()
    await client.send(START)
    await turns()
    lifecycle.fail("the scorer is gone")
    assert (lifecycle.alive.ready, lifecycle.readiness.reason) == (False, "the scorer is gone")
    with pytest.raises(StreamerError), admission.acquire():
        pass
    assert (await hear(client))[-1]["code"] == "internal"
    await theatre.over()


async def test_the_load_is_the_share_of_the_slots_in_use() -> None:
    _, admission, lifecycle = staged()
    lifecycle.set_ready()
    assert admission.load == 0.0
    with admission.acquire(), admission.acquire():
        assert admission.load == 0.2
    assert admission.load == 0.0
