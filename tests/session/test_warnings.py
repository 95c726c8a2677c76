"""What is said beside the results: acknowledgements, and warnings, each once."""

from __future__ import annotations

import numpy as np

from streamer.audio.format import AudioFormat, Encoding
from streamer.session.actions import Job, JobKind, Outcome, Output, Shed
from streamer.session.events import Ack, Finished, Mode, Segment, WarningCode, WarningEvent
from streamer.session.messages import Audio, Start, Stop
from streamer.session.settings import SessionSettings
from tests.session.harness import SessionHarness, bursts, start

SIMPLE = SessionSettings(Mode.SIMPLE)
LOUD = bursts(0.0, 1.0).tobytes()


def test_acks_come_each_half_second_and_commit_what_was_answered() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(), *[Audio(LOUD[:640])] * 100)
    assert [e.received for e in outside.of(Ack)] == [8_000, 16_000, 24_000, 32_000]
    assert {e.committed for e in outside.of(Ack)} == {0}
    outside.settle()
    outside.say(*[Audio(LOUD[:640])] * 25)
    assert outside.of(Ack)[-1].committed > 32_000 - 512  # one conversion


def test_a_partial_frame_at_the_end_is_a_warning() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD + b"\1"), Stop())
    outside.settle()
    assert [e.code for e in outside.of(WarningEvent)] == [WarningCode.PARTIAL_FRAME]
    assert outside.events[-1].received == 16_000


def test_samples_out_of_range_are_one_warning() -> None:
    outside = SessionHarness(SIMPLE)
    wild = np.array([np.nan, np.inf, 1e30, -7.0] * 8_000, dtype="<f4").tobytes()
    outside.say(Start(AudioFormat(Encoding.PCM_F32LE, 16_000, 1)), Audio(wild), Audio(wild), Stop())
    outside.settle()
    assert [e.code for e in outside.of(WarningEvent)] == [WarningCode.AUDIO_CLAMPED]


def test_late_results_are_warned_of_once() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(chunk_ms=500), Audio(LOUD))
    outside.now += 7
    outside.settle()
    assert [e.code for e in outside.of(WarningEvent)] == [WarningCode.LAGGING]


def test_interims_that_are_shed_for_load_are_warned_of_once_a_stream() -> None:
    def busy(job: Job) -> Outcome:
        return Shed(by_overload=True) if job.kind is JobKind.INTERIM else Output.of({})

    outside = SessionHarness(model=busy)
    for _ in range(2):
        outside.say(start(interim_results=True), Audio(bursts(0.0, 3.0, 1.0).tobytes()))
        while outside.scores:
            outside.score_one()
            for number in tuple(outside.jobs):
                outside.infer_one(number)
        outside.say(Stop(keep_open=True))
        outside.settle()
    assert outside.session.summary.interims_dropped > 2
    told = outside.of(WarningEvent, Finished)
    assert [type(event) for event in told] == [WarningEvent, Finished] * 2
    assert {event.code for event in told if isinstance(event, WarningEvent)} == {WarningCode.INTERIMS_SHED}


def test_an_interim_that_was_overtaken_is_no_warning() -> None:
    outside = SessionHarness(model=lambda job: Shed() if job.kind is JobKind.INTERIM else Output.of({}))
    outside.say(start(interim_results=True), Audio(bursts(0.0, 1.5).tobytes()), Stop())
    outside.settle()
    assert not outside.of(WarningEvent)


def test_a_state_that_was_lost_is_a_warning_before_the_result_that_began_anew() -> None:
    settings = SessionSettings(Mode.SIMPLE, stateful=True, max_inflight=1)
    outside = SessionHarness(settings, lambda job: Output.of({}, state_lost=job.start > 0))
    outside.say(start())
    for _ in range(2):
        outside.say(Audio(LOUD))
        outside.settle()
    told = outside.of(Segment, WarningEvent)
    assert [type(event) for event in told] == [Segment, WarningEvent, Segment]
    assert told[1].code is WarningCode.STATE_LOST
    assert told[1].message.endswith(f"; processing restarted at {told[2].start / 16_000:.3f} s")
