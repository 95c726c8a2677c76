"""The process stands still, and time goes on: what clients said meanwhile is read before anyone is judged."""

from __future__ import annotations

import pytest

from streamer.errors import ErrorCode
from streamer.session.events import Mode, Segment, SpeechEnded
from streamer.session.settings import Limits
from streamer.testing import MemoryClient, s16le, tone
from tests.connection.in_memory_server import SECOND, START, STOP, InMemoryServer, hear, kinds, turns

PAUSE_S = 62.0
KEEPALIVE = '{"type":"keepalive"}'
LIMITS = Limits(start_timeout_s=10.0, idle_timeout_s=30.0)


async def streaming(stage: InMemoryServer) -> MemoryClient[str | bytes]:
    client = stage.connect()
    await client.send(START)
    await turns()
    assert stage.notes.events
    return client


@pytest.mark.parametrize("said", [SECOND, KEEPALIVE])
async def test_a_client_that_went_on_during_a_pause_is_not_idle(said: str | bytes) -> None:
    stage = InMemoryServer(limits=LIMITS, notices_pauses=True)
    client = await streaming(stage)
    stage.clock.advance(LIMITS.idle_timeout_s - 1)
    await client.send(said)
    stage.clock.jump(PAUSE_S)  # the timers are first
    await turns()
    stage.clock.advance(1)
    await turns()
    await client.send(STOP)
    assert kinds(await hear(client))[-1] == "finished"
    await stage.over()


async def test_a_client_that_is_silent_after_a_pause_has_its_whole_time_and_no_more() -> None:
    stage = InMemoryServer(limits=LIMITS, notices_pauses=True)
    client = await streaming(stage)
    stage.clock.jump(PAUSE_S)
    stage.clock.advance(LIMITS.idle_timeout_s - 1)
    await turns()
    assert client.close_info is None
    stage.clock.advance(2)
    assert (await hear(client))[-1]["code"] == "idle_timeout"
    await stage.over()


async def test_a_start_that_came_during_a_pause_is_in_time() -> None:
    stage = InMemoryServer(limits=LIMITS, notices_pauses=True)
    client = stage.connect()
    await turns()
    await client.send(START)
    stage.clock.jump(PAUSE_S)
    await turns()
    await client.send(STOP)
    assert kinds(await hear(client))[0] == "started"
    await stage.over()


async def test_no_start_after_a_pause_is_told_when_the_rest_of_its_time_has_passed() -> None:
    stage = InMemoryServer(limits=LIMITS, notices_pauses=True)
    client = stage.connect()
    await turns()
    stage.clock.advance(4)
    stage.clock.jump(PAUSE_S)
    await turns()
    assert client.close_info is None
    stage.clock.advance(6)
    assert (await hear(client))[-1]["code"] == "start_timeout"
    await stage.over()


async def test_speech_that_went_on_during_a_pause_is_one_piece() -> None:
    stage = InMemoryServer(Mode.SEGMENTED, notices_pauses=True)
    client = await streaming(stage)
    await client.send(s16le(tone(440, 1.0)))
    await turns()
    await client.send(s16le(tone(440, 1.0)))
    stage.clock.jump(PAUSE_S)
    await turns()
    assert not any(isinstance(event, SpeechEnded) for event in stage.notes.events)
    await client.send(STOP)
    await hear(client)
    [segment] = [event for event in stage.notes.events if isinstance(event, Segment) and event.is_final]
    assert segment.end - segment.start > 1.9 * 16_000
    await stage.over()


async def test_a_reader_that_read_during_a_pause_is_not_slow() -> None:
    stage = InMemoryServer(pipe=1, notices_pauses=True)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    await client.receive()  # and the writer has not had its turn yet
    stage.clock.jump(PAUSE_S)
    await turns()
    await client.send(STOP)
    assert kinds(await hear(client))[-1] == "finished"
    await stage.over()


async def test_a_reader_that_does_not_read_after_a_pause_either_is_slow() -> None:
    stage = InMemoryServer(pipe=1, notices_pauses=True)
    client = stage.connect()
    for frame in (START, SECOND, SECOND):
        await client.send(frame)
    await turns()
    stage.clock.jump(PAUSE_S)
    for _ in range(13):  # its time, and that for its last words
        stage.clock.advance(1)
        await turns()
    await stage.over()
    assert [end.code for end in stage.notes.ends] == [ErrorCode.SLOW_CONSUMER]
