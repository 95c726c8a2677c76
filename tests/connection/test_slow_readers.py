"""Peers that read slowly or not at all: what is dropped for them, and who is cut off."""

from __future__ import annotations

from streamer.connection.outbox import OutboxBounds
from streamer.errors import ErrorCode
from streamer.session.actions import Job, Outcome, Output
from streamer.session.events import Mode
from streamer.testing import s16le, tone
from tests.connection.in_memory_server import SECOND, START, STOP, InMemoryServer, hear, hear_one, kinds, turns


async def test_a_peer_that_reads_nothing_for_the_stall_time_is_cut_off() -> None:
    stage = InMemoryServer(pipe=1)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    stage.clock.advance(10.1)
    await turns()
    assert client.close_info is None  # it has a moment for its last words
    stage.clock.advance(2.1)
    await stage.over()
    assert client.close_info is not None
    assert client.close_info.aborted
    [end] = stage.notes.ends
    assert end.code is ErrorCode.SLOW_CONSUMER


async def test_what_waits_for_a_busy_loop_is_not_held_against_the_peer() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await client.send(START)
    while not stage.notes.events:
        await turns(1)
    stage.clock.advance(15)  # and the writer has not had its turn yet
    assert kinds([await hear_one(client)]) == ["started"]
    client.close()
    await stage.over()
    assert [end.code for end in stage.notes.ends] == [None]


async def test_a_slow_peer_that_reads_again_hears_why_it_is_closed() -> None:
    stage = InMemoryServer(pipe=1)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    stage.clock.advance(10.1)
    events = await hear(client)
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "slow_consumer")
    assert client.close_info is not None
    assert client.close_info.code is ErrorCode.SLOW_CONSUMER
    await stage.over()


async def test_a_peer_that_reads_slowly_but_steadily_is_kept() -> None:
    stage = InMemoryServer(pipe=1)
    client = stage.connect()
    for frame in (START, *[SECOND] * 4):
        await client.send(frame)
    for _ in range(10):
        await turns()
        stage.clock.advance(9)
        await hear_one(client)
    assert client.close_info is None
    client.close()
    await stage.over()


def _talkative(job: Job) -> Outcome:
    return Output.of({"text": "x" * 200})


async def test_interims_and_acks_are_dropped_before_the_connection_is() -> None:
    stage = InMemoryServer(Mode.SEGMENTED, bounds=OutboxBounds(max_bytes=4_000), pipe=1)
    stage.scripted._answer = _talkative
    client = stage.connect()
    start = START.replace('"chunk_ms": 500', '"interim_results": true, "interim_interval_ms": 200')
    await client.send(start)
    for _ in range(200):
        await client.send(s16le(tone(440, 0.1)))
        await turns()
    assert client.close_info is None
    assert stage.notes.frames_dropped > 0
    await client.send(STOP)
    events = await hear(client)
    finals = [event for event in events if event["type"] == "segment" and event["is_final"]]
    assert len(finals) == 1
    assert kinds(events)[-1] == "finished"
    await stage.over()


async def test_finals_past_the_bound_end_the_connection() -> None:
    stage = InMemoryServer(bounds=OutboxBounds(max_bytes=2_000), pipe=1)
    client = stage.connect()
    await client.send(START)
    for _ in range(30):
        await client.send(SECOND)
        await turns()
    events = await hear(client)
    assert events[-1]["code"] == "slow_consumer"
    await stage.over()
