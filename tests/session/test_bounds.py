"""What a session waits for, and how long; how much it takes, of what."""

from __future__ import annotations

import pytest

from streamer.errors import ErrorCode
from streamer.session.actions import Close, JobFailed
from streamer.session.events import ErrorEvent, Mode
from streamer.session.messages import Audio, Flush, KeepAlive, Stop
from streamer.session.settings import Limits, SessionSettings
from streamer.session.state import SessionState
from tests.session.harness import SessionHarness, bursts, start

QUIET, LOUD = bursts(1.0).tobytes(), bursts(0.0, 1.0).tobytes()


def test_no_start_in_time_closes_with_its_code() -> None:
    outside = SessionHarness()
    assert outside.session.deadline == outside.now + 10.0
    outside.pass_time(9.9)
    assert not outside.events
    outside.pass_time(0.1)
    assert outside.closes == [Close(ErrorCode.START_TIMEOUT)]


def test_a_keepalive_keeps_an_idle_stream_alive() -> None:
    outside = SessionHarness()
    outside.say(start())
    for _ in range(3):
        outside.pass_time(29.0)
        outside.say(KeepAlive())
    assert not outside.closes
    outside.pass_time(30.0)
    assert outside.closes == [Close(ErrorCode.IDLE_TIMEOUT)]


def test_stalled_speech_ends_with_all_its_audio() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD[:-100]))
    while outside.scores:
        outside.score_one()
    assert outside.session.deadline == outside.now + 2.0
    outside.pass_time(2.0)
    outside.settle()
    assert outside.finals[0].end == 16_000 - 50
    assert outside.session.state is SessionState.STREAMING
    outside.say(Audio(LOUD), Stop())
    outside.settle()
    assert outside.finals[1].start >= outside.finals[0].end


def test_too_many_failures_in_a_row_give_the_stream_up() -> None:
    outside = SessionHarness(
        SessionSettings(Mode.SIMPLE, limits=Limits(max_model_failures=3)),
        lambda job: JobFailed(ErrorCode.MODEL_ERROR, "no"),
    )
    outside.say(start(chunk_ms=100), Audio(LOUD))
    outside.settle()
    assert [e.fatal for e in outside.of(ErrorEvent)] == [False, False, False, True]
    assert outside.closes == [Close(ErrorCode.MODEL_ERROR)]


def test_a_client_that_minds_no_backpressure_is_closed() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start())
    sent = 0
    while not outside.closes:
        outside.say(Audio(LOUD))
        sent += 1
        assert sent < 100
    assert outside.closes == [Close(ErrorCode.TOO_FAST)]
    assert sent > 60
    assert outside.of(ErrorEvent)[-1].retry_after_s == outside.session.settings.retry_after_s


def test_audio_that_waits_for_the_client_keeps_nobody_from_reading_it() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE))
    outside.say(start(chunk_ms=1_000), Audio(bytes(47_000)))
    assert outside.session.backlog_s == pytest.approx(1.0, abs=0.05), "the piece that the model has, and not the rest"
    outside.settle()
    assert outside.session.backlog_s < 0.05


def test_a_stream_has_a_longest_length() -> None:
    outside = SessionHarness(SessionSettings(Mode.SEGMENTED, limits=Limits(max_stream_s=1.0)))
    outside.say(start(), Audio(QUIET), Audio(b"\0\0"))
    assert outside.closes == [Close(ErrorCode.STREAM_TOO_LONG)]


def test_a_flood_of_messages_while_a_stream_finishes_is_bounded() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, limits=Limits(max_pending_messages=10)))
    outside.say(start(), Audio(LOUD), Stop(keep_open=True), *[Flush()] * 10)
    assert not outside.closes
    outside.say(Flush())
    assert outside.closes == [Close(ErrorCode.RATE_LIMITED)]
