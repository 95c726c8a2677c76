"""One rule a test: what the driver does with frames, answers, time, closes, and faults of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamer.errors import ErrorCode
from streamer.session.actions import Action
from streamer.session.events import Mode, Segment
from streamer.session.session import Session
from streamer.testing import s16le, tone
from tests.connection.in_memory_server import SECOND, START, STOP, InMemoryServer, hear, hear_one, kinds, turns


async def test_a_stream_is_answered_and_closed_normally() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    for frame in (START, SECOND, SECOND, STOP):
        await client.send(frame)
    events = await hear(client)
    assert kinds(events) == ["started", *["segment"] * 4, "finished"]
    assert sum(event["output"]["count"] for event in events if event["type"] == "segment") == 32_000
    assert client.close_info is not None
    assert (client.close_info.code, client.close_info.aborted) == (None, False)
    await stage.over()
    [end] = stage.notes.ends
    assert (end.code, end.peer_disconnected, end.summary.received_s, end.summary.segments) == (None, False, 2.0, 4)


async def test_speech_goes_through_the_scorer_and_its_row_is_given_back() -> None:
    stage = InMemoryServer(Mode.SEGMENTED)
    client = stage.connect()
    for frame in (START, SECOND, s16le(tone(440, 1.0)), SECOND, STOP):
        await client.send(frame)
    assert kinds(await hear(client)) == ["started", "speech_started", "speech_ended", "segment", "finished"]
    await stage.over()


async def test_the_next_stream_on_a_connection_starts_with_a_fresh_row() -> None:
    stage = InMemoryServer(Mode.SEGMENTED)
    client = stage.connect()
    for frame in (START, SECOND, '{"type":"stop","keep_open":true}', SECOND, STOP):
        await client.send(frame)
    await hear(client)
    assert stage.scoring.resets == 1
    await stage.over()


async def test_a_message_that_asks_for_nothing_wakes_nobody_and_sets_no_timer() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await client.send(START)
    await turns()
    timers = stage.clock.timers
    for _ in range(20):
        await client.send(b"\0\0")
        await turns()
        stage.clock.advance(0.02)
    assert stage.clock.timers == timers == 1
    client.close()
    await stage.over()


async def test_an_event_for_which_the_peer_has_room_leaves_without_a_turn_of_the_loop_and_sets_no_timer() -> None:
    stage = InMemoryServer(pipe=2)
    client = stage.connect()
    await client.send(START)
    await turns()
    await hear_one(client)
    timers = stage.clock.timers
    for _ in range(2):
        stage.manager.drain(25)
        with pytest.raises(StopIteration) as heard_at_once:
            hear_one(client).send(None)
        assert heard_at_once.value.value == {"type": "draining", "deadline_ms": 25_000}
    assert stage.clock.timers == timers
    for deadline_s in range(5):  # the third has to wait, and so do those after it
        stage.manager.drain(deadline_s)
    heard = [await hear_one(client) for _ in range(5)]
    assert [event["deadline_ms"] for event in heard] == [0, 1_000, 2_000, 3_000, 4_000]
    client.close()
    await stage.over()


@pytest.mark.parametrize("mode", Mode)
async def test_a_peer_that_leaves_leaves_nothing_behind(mode: Mode) -> None:
    stage = InMemoryServer(mode)
    stage.scripted.is_holding = stage.scoring.is_holding = True
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    client.close()
    await stage.over()
    [end] = stage.notes.ends
    assert end.peer_disconnected
    stage.scoring.release_all()
    stage.scripted.release_all()


async def test_everything_emitted_goes_out_before_the_close() -> None:
    stage = InMemoryServer(pipe=1)
    client = stage.connect()
    run = asyncio.create_task(hear(client))
    for frame in (START, *[SECOND] * 5, "nonsense", STOP):
        await client.send(frame)
    events = await run
    assert kinds(events)[-1] == "finished"
    assert kinds(events).count("segment") == 10
    assert kinds(events).count("error") == 1
    await stage.over()


async def test_a_fatal_error_is_told_before_the_close_that_names_it() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await client.send(START.replace("16000", "7"))
    [error] = await hear(client)
    assert (error["type"], error["code"], error["fatal"]) == ("error", "invalid_format", True)
    assert client.close_info is not None
    assert (client.close_info.code, client.close_info.reason) == (ErrorCode.INVALID_FORMAT, "invalid_format")
    await stage.over()


async def test_what_comes_after_the_close_is_read_and_ignored() -> None:
    stage = InMemoryServer(pipe=1)
    client = stage.connect()
    await client.send(START)
    await client.send(STOP)
    sent = 0
    try:
        for _ in range(50):
            await client.send(SECOND)
            sent += 1
            await turns(1)
    except ConnectionResetError:
        pass
    assert kinds(await hear(client)) == ["started", "finished"]
    await stage.over()


async def test_no_start_in_time_is_told_and_closed() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await turns()
    stage.clock.advance(9.9)
    await turns()
    assert client.close_info is None
    stage.clock.advance(0.2)
    [error] = await hear(client)
    assert error["code"] == "start_timeout"
    await stage.over()


async def test_a_quiet_peer_is_closed_and_a_ping_keeps_it() -> None:
    stage = InMemoryServer()
    client = stage.connect()
    await client.send(START)
    await turns()
    for _ in range(3):
        stage.clock.advance(20)
        await turns()
        client.ping()
    assert client.close_info is None
    stage.clock.advance(31)  # the ping counts from when it was noticed
    stage.clock.advance(31)
    assert (await hear(client))[-1]["code"] == "idle_timeout"
    await stage.over()


async def test_open_speech_ends_when_no_audio_comes_for_the_stall_timeout() -> None:
    stage = InMemoryServer(Mode.SEGMENTED)
    client = stage.connect()
    await client.send(START)
    await client.send(s16le(tone(440, 1.0)))
    await turns()
    stage.clock.advance(2.1)
    await turns()
    assert isinstance(stage.notes.events[-1], Segment)
    client.close()
    await stage.over()


async def test_a_bug_in_one_session_costs_that_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = InMemoryServer()
    inferred: Callable[..., Sequence[Action]] = Session.on_outcome
    broken = "broken"

    def fail_once(self: Session, *arguments: Any) -> Sequence[Action]:
        nonlocal broken
        if broken == self.id:
            raise ZeroDivisionError
        return inferred(self, *arguments)

    monkeypatch.setattr(Session, "on_outcome", fail_once)
    first, second = stage.connect(), stage.connect()
    await turns()
    broken = stage.notes.sessions[0].id
    for client in (first, second):
        for frame in (START, SECOND, STOP):
            await client.send(frame)
    events = await hear(first)
    assert (events[-1]["code"], events[-1]["message"]) == ("internal", "internal server error")
    assert first.close_info is not None
    assert first.close_info.code is ErrorCode.INTERNAL
    assert kinds(await hear(second)) == ["started", "segment", "segment", "finished"]
    await stage.over()
    assert [type(error) for error in stage.notes.broke] == [ZeroDivisionError]


async def test_cancelling_a_connection_lets_go_of_everything() -> None:
    stage = InMemoryServer(Mode.SEGMENTED)
    stage.scoring.is_holding = True
    client = stage.connect()
    await client.send(START)
    await client.send(SECOND)
    await turns()
    [run] = stage.runs
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    stage.runs.clear()
    await stage.over()
    assert client.close_info is not None
    assert client.close_info.aborted
