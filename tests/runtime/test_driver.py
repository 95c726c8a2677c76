"""One rule a test: what the driver does with frames, answers, time, slow peers and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streamer.errors import ErrorCode
from streamer.runtime.outbox import OutboxBounds
from streamer.session.actions import Action, Job, Outcome, Output
from streamer.session.events import Mode, Segment
from streamer.session.session import Session
from streamer.session.settings import Limits
from streamer.testing import s16le, tone
from streamer.transports.shortcut import without_waiting
from tests.runtime.stage import SECOND, START, STOP, Stage, hear, hear_one, kinds, turns


async def test_a_stream_is_answered_and_closed_normally() -> None:
    stage = Stage()
    client = stage.connect()
    for frame in (START, SECOND, SECOND, STOP):
        await client.send(frame)
    events = await hear(client)
    assert kinds(events) == ["started", *["segment"] * 4, "finished"]
    assert sum(event["output"]["count"] for event in events if event["type"] == "segment") == 32_000
    assert client.goodbye is not None
    assert (client.goodbye.code, client.goodbye.aborted) == (None, False)
    await stage.over()
    [end] = stage.notes.ends
    assert (end.code, end.gone, end.summary.received_s, end.summary.segments) == (None, False, 2.0, 4)


async def test_speech_goes_through_the_scorer_and_its_row_is_given_back() -> None:
    stage = Stage(Mode.SEGMENTED)
    client = stage.connect()
    for frame in (START, SECOND, s16le(tone(440, 1.0)), SECOND, STOP):
        await client.send(frame)
    assert kinds(await hear(client)) == ["started", "speech_started", "speech_ended", "segment", "finished"]
    await stage.over()


async def test_the_next_stream_on_a_connection_starts_with_a_fresh_row() -> None:
    stage = Stage(Mode.SEGMENTED)
    client = stage.connect()
    for frame in (START, SECOND, '{"type":"stop","keep_open":true}', SECOND, STOP):
        await client.send(frame)
    await hear(client)
    assert stage.scoring.resets == 1
    await stage.over()


async def test_a_message_that_asks_for_nothing_wakes_nobody_and_sets_no_timer() -> None:
    stage = Stage()
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
    stage = Stage(pipe=2)
    client = stage.connect()
    await client.send(START)
    await turns()
    await hear_one(client)
    timers = stage.clock.timers
    for _ in range(2):
        stage.conductor.drain(25)
        assert without_waiting(hear_one(client)) == {"type": "draining", "deadline_ms": 25_000}
    assert stage.clock.timers == timers
    for deadline_s in range(5):  # the third has to wait, and so do those after it
        stage.conductor.drain(deadline_s)
    heard = [await hear_one(client) for _ in range(5)]
    assert [event["deadline_ms"] for event in heard] == [0, 1_000, 2_000, 3_000, 4_000]
    client.close()
    await stage.over()


@pytest.mark.parametrize("mode", Mode)
async def test_a_peer_that_leaves_leaves_nothing_behind(mode: Mode) -> None:
    stage = Stage(mode)
    stage.scripted.held = stage.scoring.held = True
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    client.close()
    await stage.over()
    [end] = stage.notes.ends
    assert end.gone
    stage.scoring.let_go()
    stage.scripted.let_go()


async def test_everything_emitted_goes_out_before_the_close() -> None:
    stage = Stage(pipe=1)
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
    stage = Stage()
    client = stage.connect()
    await client.send(START.replace("16000", "7"))
    [error] = await hear(client)
    assert (error["type"], error["code"], error["fatal"]) == ("error", "invalid_format", True)
    assert client.goodbye is not None
    assert (client.goodbye.code, client.goodbye.reason) == (ErrorCode.INVALID_FORMAT, "invalid_format")
    await stage.over()


async def test_what_comes_after_the_close_is_read_and_ignored() -> None:
    stage = Stage(pipe=1)
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
    stage = Stage()
    client = stage.connect()
    await turns()
    stage.clock.advance(9.9)
    await turns()
    assert client.goodbye is None
    stage.clock.advance(0.2)
    [error] = await hear(client)
    assert error["code"] == "start_timeout"
    await stage.over()


async def test_a_quiet_peer_is_closed_and_a_ping_keeps_it() -> None:
    stage = Stage()
    client = stage.connect()
    await client.send(START)
    await turns()
    for _ in range(3):
        stage.clock.advance(20)
        await turns()
        client.ping()
    assert client.goodbye is None
    stage.clock.advance(31)  # the ping counts from when it was noticed
    stage.clock.advance(31)
    assert (await hear(client))[-1]["code"] == "idle_timeout"
    await stage.over()


async def test_open_speech_ends_when_no_audio_comes_for_the_stall_timeout() -> None:
    stage = Stage(Mode.SEGMENTED)
    client = stage.connect()
    await client.send(START)
    await client.send(s16le(tone(440, 1.0)))
    await turns()
    stage.clock.advance(2.1)
    await turns()
    assert isinstance(stage.notes.events[-1], Segment)
    client.close()
    await stage.over()


# Flow control -------------------------------------------------------------------------------------


async def test_a_client_too_far_ahead_is_not_read_until_half_is_dealt_with() -> None:
    stage = Stage(limits=Limits(audio_ahead_s=4.0), pipe=2)
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
        assert client.goodbye is None
    await sender
    events = await reader
    assert kinds(events)[-1] == "finished"
    assert sum(event["output"]["count"] for event in events if event["type"] == "segment") == 320_000
    await stage.over()


async def test_a_client_that_runs_ahead_of_a_stream_being_finished_is_slowed_too() -> None:
    stage = Stage(limits=Limits(audio_ahead_s=4.0), pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        frames = [START, SECOND, '{"type":"stop","keep_open":true}', START, *[SECOND] * 20, STOP]
        sender = asyncio.create_task(_send(client, frames))
        await turns()
        assert stage.notes.holds == 1
    await sender
    events = await reader
    assert [event["processed"] for event in events if event["type"] == "finished"] == [16_000, 320_000]
    await stage.over()


async def test_speech_is_not_cut_while_its_client_is_not_read() -> None:
    stage = Stage(Mode.SEGMENTED, limits=Limits(audio_ahead_s=2.0), pipe=1)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    await client.send(START)
    await client.send(s16le(tone(440, 1.0)))
    await turns()
    stage.scoring.held = True
    sender = asyncio.create_task(_send(client, [s16le(tone(440, 1.0))] * 4 + [STOP]))
    await turns()
    assert stage.notes.holds == 1
    stage.clock.advance(60)
    stage.scoring.held = False
    stage.scoring.let_go()
    await sender
    events = await reader
    assert kinds(events).count("segment") == 1
    assert next(event for event in events if event["type"] == "segment")["end_time"] == 5.0
    await stage.over()


async def _send(client: Any, frames: Sequence[str | bytes]) -> None:
    for frame in frames:
        await client.send(frame)


# Slow readers -------------------------------------------------------------------------------------


async def test_a_peer_that_reads_nothing_for_the_stall_time_is_cut_off() -> None:
    stage = Stage(pipe=1)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    stage.clock.advance(10.1)
    await turns()
    assert client.goodbye is None  # it has a moment for its last words
    stage.clock.advance(2.1)
    await stage.over()
    assert client.goodbye is not None
    assert client.goodbye.aborted
    [end] = stage.notes.ends
    assert end.code is ErrorCode.SLOW_CONSUMER


async def test_what_waits_for_a_busy_loop_is_not_held_against_the_peer() -> None:
    stage = Stage()
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
    stage = Stage(pipe=1)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    stage.clock.advance(10.1)
    events = await hear(client)
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "slow_consumer")
    assert client.goodbye is not None
    assert client.goodbye.code is ErrorCode.SLOW_CONSUMER
    await stage.over()


async def test_a_peer_that_reads_slowly_but_steadily_is_kept() -> None:
    stage = Stage(pipe=1)
    client = stage.connect()
    for frame in (START, *[SECOND] * 4):
        await client.send(frame)
    for _ in range(10):
        await turns()
        stage.clock.advance(9)
        await hear_one(client)
    assert client.goodbye is None
    client.close()
    await stage.over()


def _talkative(job: Job) -> Outcome:
    return Output({"text": "x" * 200})


async def test_interims_and_acks_are_dropped_before_the_connection_is() -> None:
    stage = Stage(Mode.SEGMENTED, bounds=OutboxBounds(bytes=4_000), pipe=1)
    stage.scripted._answer = _talkative
    client = stage.connect()
    start = START.replace('"chunk_ms": 500', '"interim_results": true, "interim_interval_ms": 200')
    await client.send(start)
    for _ in range(200):
        await client.send(s16le(tone(440, 0.1)))
        await turns()
    assert client.goodbye is None
    assert stage.notes.frames_dropped > 0
    await client.send(STOP)
    events = await hear(client)
    finals = [event for event in events if event["type"] == "segment" and event["is_final"]]
    assert len(finals) == 1
    assert kinds(events)[-1] == "finished"
    await stage.over()


async def test_finals_past_the_bound_end_the_connection() -> None:
    stage = Stage(bounds=OutboxBounds(bytes=2_000), pipe=1)
    client = stage.connect()
    await client.send(START)
    for _ in range(30):
        await client.send(SECOND)
        await turns()
    events = await hear(client)
    assert events[-1]["code"] == "slow_consumer"
    await stage.over()


# Our own faults -----------------------------------------------------------------------------------


async def test_a_bug_in_one_session_costs_that_session_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    inferred: Callable[..., Sequence[Action]] = Session.inferred
    broken = "broken"

    def fail_once(self: Session, *arguments: Any) -> Sequence[Action]:
        nonlocal broken
        if broken == self.id:
            raise ZeroDivisionError
        return inferred(self, *arguments)

    monkeypatch.setattr(Session, "inferred", fail_once)
    first, second = stage.connect(), stage.connect()
    await turns()
    broken = stage.notes.sessions[0].id
    for client in (first, second):
        for frame in (START, SECOND, STOP):
            await client.send(frame)
    events = await hear(first)
    assert (events[-1]["code"], events[-1]["message"]) == ("internal", "internal server error")
    assert first.goodbye is not None
    assert first.goodbye.code is ErrorCode.INTERNAL
    assert kinds(await hear(second)) == ["started", "segment", "segment", "finished"]
    await stage.over()
    assert [type(error) for error in stage.notes.broke] == [ZeroDivisionError]


async def test_cancelling_a_connection_lets_go_of_everything() -> None:
    stage = Stage(Mode.SEGMENTED)
    stage.scoring.held = True
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
    assert client.goodbye is not None
    assert client.goodbye.aborted


# The end of the server ----------------------------------------------------------------------------


async def test_a_drain_is_told_and_a_finish_sends_the_results_first() -> None:
    stage = Stage()
    client = stage.connect()
    await client.send(START)
    await client.send(SECOND)
    await turns()
    stage.conductor.drain(25)
    await turns()
    await stage.conductor.finish(0)
    events = await hear(client)
    assert kinds(events) == ["started", "segment", "draining", "segment", "finished"] or kinds(events) == [
        "started",
        "segment",
        "segment",
        "draining",
        "finished",
    ]
    assert events[-1]["reason"] == "drained"
    assert client.goodbye is not None
    assert client.goodbye.code is ErrorCode.DRAINING
    await stage.over()


async def test_a_loop_that_comes_round_late_finishes_at_once_whoever_is_due() -> None:
    stage = Stage()
    clients = [stage.connect() for _ in range(10)]
    await turns()
    finishing = asyncio.create_task(stage.conductor.finish(spread_s=10))
    await turns()
    assert sum(client.goodbye is not None for client in clients) == 1
    stage.clock.advance(5.5)
    await turns()
    assert sum(client.goodbye is not None for client in clients) == 6
    stage.clock.advance(10)
    await finishing
    await stage.over()


async def test_what_comes_after_a_finish_is_left_unread() -> None:
    stage = Stage(pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await _send(client, [START, SECOND])
        await turns()
        await stage.conductor.finish(0)
        sender = asyncio.create_task(_send(client, [SECOND] * 20))
        await turns()
        assert not sender.done()
    assert stage.notes.holds == 0  # it is not ahead of anything
    events = await reader
    assert (events[-1]["reason"], events[-1]["received"]) == ("drained", 16_000)
    with pytest.raises(ConnectionError):
        await sender
    await stage.over()


async def test_who_is_not_read_is_cut_off_too() -> None:
    stage = Stage(pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await _send(client, [START, SECOND])
        await turns()
        await stage.conductor.finish(0)
        await client.send(SECOND)
        await turns()
        stage.conductor.abort()
        await stage.over()  # though the model says nothing
    await reader


async def test_during_a_drain_less_is_read_of_who_is_ahead() -> None:
    stage = Stage(limits=Limits(audio_ahead_s=60.0), pipe=2)
    client = stage.connect()
    reader = asyncio.create_task(hear(client))
    with stage.held():
        await client.send(START)
        stage.conductor.drain(25)
        sender = asyncio.create_task(_send(client, [*[SECOND] * 20, STOP]))
        await turns()
        assert not sender.done()
        assert stage.notes.holds == 1
    await sender
    assert (await reader)[-1]["processed"] == 320_000
    await stage.over()


async def test_who_comes_during_a_drain_is_told_at_once() -> None:
    stage = Stage()
    stage.conductor.drain(25)
    stage.clock.advance(10)
    client = stage.connect()
    assert await hear_one(client) == {"type": "draining", "deadline_ms": 15_000}
    client.close()
    await stage.over()


async def test_an_abort_cuts_everybody_off() -> None:
    stage = Stage()
    clients = [stage.connect() for _ in range(3)]
    await turns()
    assert stage.conductor.abort() == 3
    await stage.over()
    assert all(client.goodbye is not None and client.goodbye.aborted for client in clients)
