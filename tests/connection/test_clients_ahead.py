"""Flow control: who is further ahead than is allowed is not read, and nothing is held against it meanwhile."""

from __future__ import annotations

import asyncio

from streamer.session.events import Mode
from streamer.session.settings import Limits
from streamer.testing import s16le, tone
from tests.connection.in_memory_server import SECOND, START, STOP, InMemoryServer, hear, kinds, send_all, turns


async def test_a_client_too_far_ahead_is_not_read_until_half_is_dealt_with() -> None:
    stage = InMemoryServer(limits=Limits(audio_ahead_s=4.0), pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    sent = 0

    async def send() -> None:
        nonlocal sent
        await client.send(START)
        for _ in range(20):
            await client.send(SECOND)
            sent += 1
        await client.send(STOP)

    sender = asyncio.create_task(send())
    with stage.held():
        await turns()
        assert sent < 10
        assert stage.notes.holds == 1
        stage.clock.advance(120)  # it is we who do not listen: no stall, no idle time-out
        await turns()
        assert client.close_info is None
    await sender
    events = await reader
    assert kinds(events)[-1] == "finished"
    assert sum(event["output"]["count"] for event in events if event["type"] == "segment") == 320_000
    await stage.over()


async def test_a_client_that_runs_ahead_of_a_stream_being_finished_is_slowed_too() -> None:
    stage = InMemoryServer(limits=Limits(audio_ahead_s=4.0), pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        frames = [START, SECOND, '{"type":"stop","keep_open":true}', START, *[SECOND] * 20, STOP]
        sender = asyncio.create_task(send_all(client, frames))
        await turns()
        assert stage.notes.holds == 1
    await sender
    events = await reader
    assert [event["processed"] for event in events if event["type"] == "finished"] == [16_000, 320_000]
    await stage.over()


async def test_speech_is_not_cut_while_its_client_is_not_read() -> None:
    stage = InMemoryServer(Mode.SEGMENTED, limits=Limits(audio_ahead_s=2.0), pipe=1)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    await client.send(START)
    await client.send(s16le(tone(440, 1.0)))
    await turns()
    stage.scoring.is_holding = True
    sender = asyncio.create_task(send_all(client, [s16le(tone(440, 1.0))] * 4 + [STOP]))
    await turns()
    assert stage.notes.holds == 1
    stage.clock.advance(60)
    stage.scoring.is_holding = False
    stage.scoring.release_all()
    await sender
    events = await reader
    assert kinds(events).count("segment") == 1
    assert next(event for event in events if event["type"] == "segment")["end_time"] == 5.0
    await stage.over()
