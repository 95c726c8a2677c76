"""The end of the server: who is told, who is finished when, what is still read, who is cut off."""

from __future__ import annotations

import asyncio

import pytest

from streamer.errors import ErrorCode
from streamer.session.settings import Limits
from tests.connection.in_memory_server import (
    SECOND,
    START,
    STOP,
    InMemoryServer,
    hear,
    hear_one,
    kinds,
    send_all,
    turns,
)


async def test_a_drain_is_told_and_a_finish_sends_the_results_first() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await client.send(START)
    await client.send(SECOND)
    await turns()
    stage.manager.drain(25)
    await turns()
    await stage.manager.finish(0)
    events = await hear(client)
    assert kinds(events) == ["started", "segment", "draining", "segment", "finished"] or kinds(events) == [
        "started",
        "segment",
        "segment",
        "draining",
        "finished",
    ]
    assert events[-1]["reason"] == "drained"
    assert client.close_info is not None
    assert client.close_info.code is ErrorCode.DRAINING
    await stage.over()


async def test_a_loop_that_comes_round_late_finishes_at_once_whoever_is_due() -> None:
    stage = InMemoryServer()
    clients = [stage.connect() for _ in range(10)]
    await turns()
    finishing = asyncio.create_task(stage.manager.finish(spread_s=10))
    await turns()
    assert sum(client.close_info is not None for client in clients) == 1
    stage.clock.advance(5.5)
    await turns()
    assert sum(client.close_info is not None for client in clients) == 6
    stage.clock.advance(10)
    await finishing
    await stage.over()


async def test_what_comes_after_a_finish_is_left_unread() -> None:
    stage = InMemoryServer(pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await send_all(client, [START, SECOND])
        await turns()
        await stage.manager.finish(0)
        sender = asyncio.create_task(send_all(client, [SECOND] * 20))
        await turns()
        assert not sender.done()
    assert stage.notes.holds == 0  # it is not ahead of anything
    events = await reader
    assert (events[-1]["reason"], events[-1]["received"]) == ("drained", 16_000)
    with pytest.raises(ConnectionError):
        await sender
    await stage.over()


async def test_who_is_not_read_is_cut_off_too() -> None:
    stage = InMemoryServer(pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await send_all(client, [START, SECOND])
        await turns()
        await stage.manager.finish(0)
        await client.send(SECOND)
        await turns()
        stage.manager.abort()
        await stage.over()  # though the model says nothing
    await reader


async def test_during_a_drain_less_is_read_of_who_is_ahead() -> None:
    stage = InMemoryServer(limits=Limits(audio_ahead_s=60.0), pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await client.send(START)
        stage.manager.drain(25)
        sender = asyncio.create_task(send_all(client, [*[SECOND] * 20, STOP]))
        await turns()
        assert not sender.done()
        assert stage.notes.holds == 1
    await sender
    assert (await reader)[-1]["processed"] == 320_000
    await stage.over()


async def test_who_comes_during_a_drain_is_told_at_once() -> None:
    stage = InMemoryServer()
    stage.manager.drain(25)
    stage.clock.advance(10)
    client = stage.connect()
    assert await hear_one(client) == {"type": "draining", "deadline_ms": 15_000}
    client.close()
    await stage.over()


async def test_an_abort_cuts_everybody_off() -> None:
    stage = InMemoryServer()
    clients = [stage.connect() for _ in range(3)]
    await turns()
    assert stage.manager.abort() == 3
    await stage.over()
    assert all(client.close_info is not None and client.close_info.aborted for client in clients)
