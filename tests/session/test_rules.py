"""One rule a test: what each message does in each state, what ends a stream, what is said about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Cancel, Close, Job, JobFailed, JobKind, Outcome, Output, Shed
from streamer.session.events import (
    Ack,
    Draining,
    Failed,
    Finished,
    FinishReason,
    Flushed,
    Mode,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    Warned,
    WarningCode,
)
from streamer.session.messages import Audio, Auth, Flush, KeepAlive, Leave, Malformed, Start, Stop, VadOverrides
from streamer.session.settings import Limits, SessionSettings
from streamer.session.state import TABLE, State, Step
from tests.session.outside import S16, Outside, bursts, start

SIMPLE = SessionSettings(Mode.SIMPLE)
SEGMENTED = SessionSettings(Mode.SEGMENTED)
QUIET, LOUD = bursts(1.0).tobytes(), bursts(0.0, 1.0).tobytes()


def test_the_table_says_what_every_message_does_in_every_state() -> None:
    assert set(TABLE) == set(State)
    for row in TABLE.values():
        assert set(row) == {Start, Audio, Flush, Stop, Leave, KeepAlive, Auth}
    assert {step for row in TABLE.values() for step in row.values()} == set(Step)


@pytest.mark.parametrize("message", [Audio(b"\0\0"), Flush("x"), Stop(), Stop(keep_open=True)])
def test_before_a_start_a_message_is_refused_and_the_connection_stays(message: object) -> None:
    outside = Outside()
    outside.say(message)  # type: ignore[arg-type]
    [error] = outside.events
    assert isinstance(error, Failed)
    assert (error.code, error.fatal) == (ErrorCode.BAD_STATE, False)
    outside.say(start())
    assert isinstance(outside.events[-1], Started)


def test_audio_before_a_start_is_refused_once_not_per_message() -> None:
    outside = Outside()
    outside.say(*[Audio(b"\0\0")] * 50)
    assert len(outside.events) == 1


def test_a_stop_after_a_stop_closes_normally() -> None:
    outside = Outside()
    outside.say(start(), Stop(keep_open=True), Stop())
    assert [close.code for close in outside.closes] == [None]
    assert not outside.of(Failed)


@pytest.mark.parametrize("before", [(), (start(), Stop(keep_open=True))])
def test_leaving_while_nothing_runs_closes_normally(before: tuple[object, ...]) -> None:
    outside = Outside()
    outside.say(*before, Leave())  # type: ignore[arg-type]
    assert [close.code for close in outside.closes] == [None]
    assert not outside.of(Failed)


@pytest.mark.parametrize("before", [(), (Flush("a"),), (Stop(keep_open=True),), (Stop(),)])
def test_leaving_is_a_stop_that_nothing_follows(before: tuple[object, ...]) -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD), *before, Leave())  # type: ignore[arg-type]
    outside.settle()
    assert [finished.reason for finished in outside.of(Finished)] == [FinishReason.STOPPED]
    assert len(outside.finals) == 1
    assert [close.code for close in outside.closes] == [None]


def test_a_start_may_name_its_mode() -> None:
    outside = Outside(SEGMENTED)
    outside.say(replace(start(), mode=Mode.SIMPLE), Audio(QUIET), Stop(keep_open=True), start(), Audio(QUIET), Stop())
    outside.settle()
    assert [started.mode for started in outside.of(Started)] == [Mode.SIMPLE, Mode.SEGMENTED]
    assert outside.finals
    assert all(segment.end <= 16_000 for segment in outside.finals)


def test_a_malformed_message_is_told_and_changes_nothing() -> None:
    outside = Outside()
    outside.say(start(), Malformed(ErrorCode.BAD_REQUEST, "no JSON"), Audio(LOUD), Stop())
    outside.settle()
    assert [e.message for e in outside.of(Failed)] == ["no JSON"]
    assert len(outside.finals) == 1


def test_a_fatal_malformed_message_names_what_is_unanswered_and_closes() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(), Audio(QUIET), Malformed(ErrorCode.MESSAGE_TOO_BIG, "70 000 bytes", fatal=True))
    error = outside.events[-1]
    assert isinstance(error, Failed)
    assert (error.fatal, error.start, error.end) == (True, 0, 16_000)
    assert outside.closes == [Close(ErrorCode.MESSAGE_TOO_BIG)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Start(AudioFormat(Encoding.PCM_S16LE, 16_000, 9)), "format.channels: expected an integer from 1 to 8, got 9"),
        (Start(AudioFormat(Encoding.PCM_S16LE, 1, 1)), "format.sample_rate: expected an integer from 4000 to 192000"),
        (start(chunk_ms=1), "chunk_ms: expected an integer from 20 to 10000, got 1"),
        (start(vad=VadOverrides(redemption_time_ms=-1)), "vad.redemption_time_ms: expected a number from 0"),
        (start(vad=VadOverrides(positive_speech_threshold=0.1)), "vad.negative_speech_threshold: expected at most"),
        (start(metadata={str(i): "" for i in range(17)}), "metadata: expected at most 16 entries, got 17"),
        (start(metadata={"k": "ä" * 129}), "metadata: expected keys and values of at most 256 bytes"),
        (start(options=b"x" * 9_000), "options: expected at most 8192 bytes"),
    ],
)
def test_a_start_that_cannot_be_served_is_named_and_closes(bad: Start, words: str) -> None:
    outside = Outside()
    outside.say(bad)
    [error] = outside.events
    assert isinstance(error, Failed)
    assert error.fatal
    assert words in error.message
    assert outside.closes[0].code == error.code


def test_the_clock_of_silence_needs_no_model() -> None:
    outside = Outside()
    outside.say(start(), Audio(QUIET), Stop())
    outside.settle()
    assert [type(e) for e in outside.heard] == [Started, Finished]
    assert outside.events[-1] == Finished(FinishReason.STOPPED, 16_000, 16_000, 0, 0)


def test_speech_events_go_on_while_the_model_runs() -> None:
    outside = Outside()
    outside.say(start(), Audio(bursts(0.5, 1.0, 1.0, 1.0, 1.0).tobytes()))
    while outside.scores:
        outside.score_one()
    assert [type(e) for e in outside.facts] == [SpeechStarted, SpeechEnded] * 2
    assert len(outside.jobs) == 2
    assert not outside.finals


def test_one_interim_per_channel_is_out_at_most() -> None:
    outside = Outside()
    outside.say(start(interim_results=True), Audio(bursts(0.0, 5.0).tobytes()))
    while outside.scores:
        outside.score_one()
    assert [job.kind for job in outside.jobs.values()] == [JobKind.INTERIM]
    first = next(iter(outside.jobs.values()))
    outside.infer_one(first.id)
    [second] = outside.jobs.values()
    assert second.end > first.end + 8_000, "the newest range, not the next one"


def test_an_interim_is_cancelled_when_its_final_is_asked_for() -> None:
    outside = Outside()
    outside.say(start(interim_results=True), Audio(bursts(0.0, 2.0).tobytes()))
    while outside.scores:
        outside.score_one()
    [interim] = outside.jobs
    outside.say(Flush())
    outside.settle()
    assert interim in outside.cancelled
    assert [e.is_final for e in outside.of(Segment)] == [True]


@pytest.mark.parametrize("outcome", [Shed(), JobFailed(ErrorCode.MODEL_ERROR, "no")])
def test_an_interim_without_an_answer_is_no_loss(outcome: Outcome) -> None:
    outside = Outside(model=lambda job: outcome if job.kind is JobKind.INTERIM else Output(1))
    outside.say(start(interim_results=True), Audio(LOUD), Stop())
    outside.settle()
    assert not outside.of(Failed)
    assert len(outside.finals) == 1


def test_parts_of_a_final_are_interims_where_these_were_asked_for() -> None:
    for wanted in (True, False):
        outside = Outside(SIMPLE)
        outside.say(start(interim_results=wanted), Audio(LOUD))
        [job] = outside.jobs
        outside.take(outside.session.inferred(job, Output("half", partial=True), outside.now))
        outside.take(outside.session.inferred(job, Output("whole"), outside.now))
        told = [(e.is_final, e.output) for e in outside.of(Segment)]
        assert told == [(False, "half")] * wanted + [(True, "whole")]


def test_a_slow_model_gets_longer_pieces_not_more() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start(), Audio(LOUD))
    outside.say(*[Audio(LOUD[:3_200])] * 50)
    assert len(outside.jobs) == 1
    outside.infer_one(1)
    [job] = outside.jobs.values()
    assert job.end == 16_000 + 80_000


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("chunk_ms", [20, 333, 500])
def test_a_piece_is_asked_for_with_its_last_sample(chunk_ms: int, rate: int) -> None:
    outside = Outside(SIMPLE)
    outside.say(start(AudioFormat(Encoding.PCM_S16LE, rate, 1), chunk_ms=chunk_ms))
    held_back = 0 if rate == 16_000 else 2 * 40  # what a doubled rate always is
    outside.say(Audio(bytes(chunk_ms * rate // 1000 * 2 + held_back)))
    assert [job.end for job in outside.jobs.values()] == [chunk_ms * 16]


def test_without_a_fixed_length_a_piece_is_asked_for_as_soon_as_it_is_long_enough() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(), *[Audio(bytes(640))] * 5)
    assert [job.seconds for job in outside.jobs.values()] == [0.1]


def test_a_piece_is_never_longer_than_the_longest() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start(), Audio(LOUD), *[Audio(LOUD)] * 25)
    outside.infer_one(1)
    [job] = outside.jobs.values()
    assert job.seconds == 10.0


def test_stalled_speech_ends_with_all_its_audio() -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD[:-100]))
    while outside.scores:
        outside.score_one()
    assert outside.session.deadline == outside.now + 2.0
    outside.pass_time(2.0)
    outside.settle()
    assert outside.finals[0].end == 16_000 - 50
    assert outside.session.state is State.STREAMING
    outside.say(Audio(LOUD), Stop())
    outside.settle()
    assert outside.finals[1].start >= outside.finals[0].end


def test_no_start_in_time_closes_with_its_code() -> None:
    outside = Outside()
    assert outside.session.deadline == outside.now + 10.0
    outside.pass_time(9.9)
    assert not outside.events
    outside.pass_time(0.1)
    assert outside.closes == [Close(ErrorCode.START_TIMEOUT)]


def test_a_keepalive_keeps_an_idle_stream_alive() -> None:
    outside = Outside()
    outside.say(start())
    for _ in range(3):
        outside.pass_time(29.0)
        outside.say(KeepAlive())
    assert not outside.closes
    outside.pass_time(30.0)
    assert outside.closes == [Close(ErrorCode.IDLE_TIMEOUT)]


def test_acks_come_each_half_second_and_commit_what_was_answered() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(), *[Audio(LOUD[:640])] * 100)
    assert [e.received for e in outside.of(Ack)] == [8_000, 16_000, 24_000, 32_000]
    assert {e.committed for e in outside.of(Ack)} == {0}
    outside.settle()
    outside.say(*[Audio(LOUD[:640])] * 25)
    assert outside.of(Ack)[-1].committed > 32_000 - 512  # one conversion


def test_too_many_failures_in_a_row_give_the_stream_up() -> None:
    outside = Outside(
        SessionSettings(Mode.SIMPLE, limits=Limits(max_model_failures=3)),
        lambda job: JobFailed(ErrorCode.MODEL_ERROR, "no"),
    )
    outside.say(start(chunk_ms=100), Audio(LOUD))
    outside.settle()
    assert [e.fatal for e in outside.of(Failed)] == [False, False, False, True]
    assert outside.closes == [Close(ErrorCode.MODEL_ERROR)]


def test_a_partial_frame_at_the_end_is_a_warning() -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD + b"\1"), Stop())
    outside.settle()
    assert [e.code for e in outside.of(Warned)] == [WarningCode.PARTIAL_FRAME]
    assert outside.events[-1].received == 16_000


def test_samples_out_of_range_are_one_warning() -> None:
    outside = Outside(SIMPLE)
    wild = np.array([np.nan, np.inf, 1e30, -7.0] * 8_000, dtype="<f4").tobytes()
    outside.say(Start(AudioFormat(Encoding.PCM_F32LE, 16_000, 1)), Audio(wild), Audio(wild), Stop())
    outside.settle()
    assert [e.code for e in outside.of(Warned)] == [WarningCode.AUDIO_CLAMPED]


def test_a_client_that_minds_no_backpressure_is_closed() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start())
    sent = 0
    while not outside.closes:
        outside.say(Audio(LOUD))
        sent += 1
        assert sent < 100
    assert outside.closes == [Close(ErrorCode.TOO_FAST)]
    assert sent > 60


def test_a_stream_has_a_longest_length() -> None:
    outside = Outside(SessionSettings(Mode.SEGMENTED, limits=Limits(max_stream_s=1.0)))
    outside.say(start(), Audio(QUIET), Audio(b"\0\0"))
    assert outside.closes == [Close(ErrorCode.STREAM_TOO_LONG)]


def test_what_is_said_while_a_stream_finishes_waits_and_nothing_is_lost() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(), Audio(LOUD), Stop(keep_open=True))
    outside.say(*[Audio(LOUD[i : i + 1]) for i in range(2_000)], Stop())
    outside.settle()
    assert [e.received for e in outside.of(Finished)] == [16_000, 1_000]


def test_a_flood_of_messages_while_a_stream_finishes_is_bounded() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE, limits=Limits(max_pending_messages=10)))
    outside.say(start(), Audio(LOUD), Stop(keep_open=True), *[Flush()] * 10)
    assert not outside.closes
    outside.say(Flush())
    assert outside.closes == [Close(ErrorCode.RATE_LIMITED)]


def test_a_drain_tells_then_finishes_as_if_stopped() -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD))
    outside.take(outside.session.drain(25.0, outside.now))
    outside.take(outside.session.finish(outside.now))
    outside.settle()
    assert outside.of(Draining) == [Draining(25.0)]
    assert outside.events[-1] == Finished(FinishReason.DRAINED, 16_000, 16_000, 1, 0)
    assert outside.closes == [Close(ErrorCode.DRAINING)]


def test_a_drain_in_a_flush_still_answers_the_flush() -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD), Flush("x"))
    outside.take(outside.session.finish(outside.now))
    outside.settle()
    assert [type(e) for e in outside.heard[-3:]] == [Segment, Flushed, Finished]


def test_a_hangup_cancels_what_is_outstanding() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(), Audio(LOUD))
    actions = outside.session.hangup(outside.now)
    assert Cancel(1) in actions
    assert outside.session.state is State.CLOSED
    assert not outside.session.inferred(1, Output(1), outside.now)


def test_a_late_answer_after_a_fatal_error_says_nothing() -> None:
    outside = Outside()
    outside.say(start(), Audio(LOUD))
    scores = list(outside.scores)
    outside.say(Malformed(ErrorCode.BAD_REQUEST, "x", fatal=True))
    told = outside.session.scored(scores[0].channel, [0.0] * 31, outside.now)
    assert not told


def test_a_stateful_model_has_one_piece_out_and_no_interims() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE, stateful=True))
    outside.say(start(chunk_ms=100, interim_results=True), Audio(LOUD))
    assert len(outside.jobs) == 1


def test_late_results_are_warned_of_once() -> None:
    outside = Outside(SIMPLE)
    outside.say(start(chunk_ms=500), Audio(LOUD))
    outside.now += 7
    outside.settle()
    assert [e.code for e in outside.of(Warned)] == [WarningCode.LAGGING]


@pytest.mark.parametrize("model_rate", [8_000, 16_000, 24_000, 44_100])
def test_a_model_at_any_rate_gets_the_speech_at_its_rate(model_rate: int) -> None:
    got: list[Job] = []

    def keep(job: Job) -> Outcome:
        got.append(job)
        return Output(None)

    outside = Outside(SessionSettings(Mode.SEGMENTED, model_sample_rate=model_rate), keep)
    outside.say(start(S16), Audio(bursts(1.0, 1.0, 1.0, 0.6).tobytes()), Stop())
    outside.settle()
    first, second = outside.finals
    assert abs(first.start / model_rate - 0.4) < 0.07
    assert abs(first.end / model_rate - 2.0) < 0.07
    assert second.end == round(3.6 * model_rate)
    assert [len(job.samples) for job in got] == [f.end - f.start for f in (first, second)]


def test_a_state_that_was_lost_is_a_warning_before_the_result_that_began_anew() -> None:
    settings = SessionSettings(Mode.SIMPLE, stateful=True, max_inflight=1)
    outside = Outside(settings, lambda job: Output({}, state_lost=job.start > 0))
    outside.say(start())
    for _ in range(2):
        outside.say(Audio(LOUD))
        outside.settle()
    told = outside.of(Segment, Warned)
    assert [type(event) for event in told] == [Segment, Warned, Segment]
    assert told[1].code is WarningCode.STATE_LOST
    assert told[1].message.endswith(f"channel 0; it began anew at {told[2].start / 16_000:.3f} s")


def test_audio_that_waits_for_the_client_keeps_nobody_from_reading_it() -> None:
    outside = Outside(SessionSettings(Mode.SIMPLE))
    outside.say(start(chunk_ms=1_000), Audio(bytes(47_000)))
    assert outside.session.backlog_s == pytest.approx(1.0, abs=0.05), "the piece that the model has, and not the rest"
    outside.settle()
    assert outside.session.backlog_s < 0.05
