"""What is asked of the model, when, and what is told of its answers: interims, pieces, segments at its rate."""

from __future__ import annotations

import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, JobKind, Outcome, Output, Shed
from streamer.session.events import (
    ErrorEvent,
    Finished,
    FinishReason,
    Mode,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
)
from streamer.session.messages import Audio, Flush, Stop
from streamer.session.settings import SessionSettings
from tests.raw import read
from tests.session.harness import S16, SessionHarness, bursts, start

SIMPLE = SessionSettings(Mode.SIMPLE)
QUIET, LOUD = bursts(1.0).tobytes(), bursts(0.0, 1.0).tobytes()


def test_the_clock_of_silence_needs_no_model() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(QUIET), Stop())
    outside.settle()
    assert [type(e) for e in outside.heard] == [Started, Finished]
    assert outside.events[-1] == Finished(FinishReason.STOPPED, 16_000, 16_000, 0, 0)


def test_speech_events_go_on_while_the_model_runs() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(bursts(0.5, 1.0, 1.0, 1.0, 1.0).tobytes()))
    while outside.scores:
        outside.score_one()
    assert [type(e) for e in outside.facts] == [SpeechStarted, SpeechEnded] * 2
    assert len(outside.jobs) == 2
    assert not outside.finals


def test_one_interim_per_channel_is_out_at_most() -> None:
    outside = SessionHarness()
    outside.say(start(interim_results=True), Audio(bursts(0.0, 5.0).tobytes()))
    while outside.scores:
        outside.score_one()
    assert [job.kind for job in outside.jobs.values()] == [JobKind.INTERIM]
    first = next(iter(outside.jobs.values()))
    outside.infer_one(first.id)
    [second] = outside.jobs.values()
    assert second.end > first.end + 8_000, "the newest range, not the next one"


def test_an_interim_is_cancelled_when_its_final_is_asked_for() -> None:
    outside = SessionHarness()
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
    outside = SessionHarness(model=lambda job: outcome if job.kind is JobKind.INTERIM else Output.of(1))
    outside.say(start(interim_results=True), Audio(LOUD), Stop())
    outside.settle()
    assert not outside.of(ErrorEvent)
    assert len(outside.finals) == 1


def test_parts_of_a_final_are_interims_where_these_were_asked_for() -> None:
    for wanted in (True, False):
        outside = SessionHarness(SIMPLE)
        outside.say(start(interim_results=wanted), Audio(LOUD))
        [job] = outside.jobs
        outside.take(outside.session.on_outcome(job, Output.of("half", partial=True), outside.now))
        outside.take(outside.session.on_outcome(job, Output.of("whole"), outside.now))
        told = [(e.is_final, read(e.output)) for e in outside.of(Segment)]
        assert told == [(False, "half")] * wanted + [(True, "whole")]


def test_a_slow_model_gets_longer_pieces_not_more() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start(), Audio(LOUD))
    outside.say(*[Audio(LOUD[:3_200])] * 50)
    assert len(outside.jobs) == 1
    outside.infer_one(1)
    [job] = outside.jobs.values()
    assert job.end == 16_000 + 80_000


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("chunk_ms", [20, 333, 500])
def test_a_piece_is_asked_for_with_its_last_sample(chunk_ms: int, rate: int) -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(AudioFormat(Encoding.PCM_S16LE, rate, 1), chunk_ms=chunk_ms))
    held_back = 0 if rate == 16_000 else 2 * 40  # what a doubled rate always is
    outside.say(Audio(bytes(chunk_ms * rate // 1000 * 2 + held_back)))
    assert [job.end for job in outside.jobs.values()] == [chunk_ms * 16]


def test_without_a_fixed_length_a_piece_is_asked_for_as_soon_as_it_is_long_enough() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(), *[Audio(bytes(640))] * 5)
    assert [job.seconds for job in outside.jobs.values()] == [0.1]


def test_a_piece_is_never_longer_than_the_longest() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start(), Audio(LOUD), *[Audio(LOUD)] * 25)
    outside.infer_one(1)
    [job] = outside.jobs.values()
    assert job.seconds == 10.0


def test_a_stateful_model_has_one_piece_out_and_no_interims() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, stateful=True))
    outside.say(start(chunk_ms=100, interim_results=True), Audio(LOUD))
    assert len(outside.jobs) == 1


@pytest.mark.parametrize("model_rate", [8_000, 16_000, 24_000, 44_100])
def test_a_model_at_any_rate_gets_the_speech_at_its_rate(model_rate: int) -> None:
    got: list[Job] = []

    def keep(job: Job) -> Outcome:
        got.append(job)
        return Output.of(None)

    outside = SessionHarness(SessionSettings(Mode.SEGMENTED, model_sample_rate=model_rate), keep)
    outside.say(start(S16), Audio(bursts(1.0, 1.0, 1.0, 0.6).tobytes()), Stop())
    outside.settle()
    first, second = outside.finals
    assert abs(first.start / model_rate - 0.4) < 0.07
    assert abs(first.end / model_rate - 2.0) < 0.07
    assert second.end == round(3.6 * model_rate)
    assert [len(job.samples) for job in got] == [f.end - f.start for f in (first, second)]
