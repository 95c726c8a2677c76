"""The promises of the wire, over random audio, cuts, orders of answers, flushes and restarts."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.session.events import ErrorEvent, Finished, Flushed, Mode, Segment, SpeechEnded, SpeechStarted, Started
from streamer.session.messages import Audio, Flush, KeepAlive, Malformed, Message, Start, Stop
from streamer.session.settings import Limits, SessionSettings
from tests.raw import read
from tests.session.harness import SessionHarness, bursts, count_samples, cut, start

SEEDS = st.integers(0, 2**32 - 1)


def _turns(rng: random.Random) -> list[float]:
    return [rng.uniform(0.2, 1.5) for _ in range(rng.randrange(2, 7))]


def _sizes(rng: random.Random, total: int) -> list[int]:
    style = rng.choice(["odd", "frames", "large", "mixed"])
    ranges = {"odd": (1, 333), "frames": (640, 640), "large": (5_000, 60_000), "mixed": (1, 9_000)}
    low, high = ranges[style]
    return [rng.randint(low, high) for _ in range(total // low + 1)][: total // low + 1]


def _played(rng: random.Random, data: bytes, mode: Mode, first: Start, *, answers: bool) -> SessionHarness:
    """A whole stream said in random messages; answers come at random moments, or all at the end of each message."""
    outside = SessionHarness(SessionSettings(mode))
    outside.say(first)
    for message in cut(data, _sizes(rng, len(data))):
        outside.say(message)
        while outside.scores and (not answers or rng.random() < 0.7):
            outside.score_one(rng.randrange(len(outside.scores)))
        while outside.jobs and answers and rng.random() < 0.3:
            outside.infer_one(rng.choice(list(outside.jobs)))
    outside.say(Stop())
    outside.settle(rng)
    return outside


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([(8_000, 1), (16_000, 1), (16_000, 2), (44_100, 1)]))
def test_same_audio_any_cut_same_answer(seed: int, shape: tuple[int, int]) -> None:
    rate, channels = shape
    rng = random.Random(seed)
    turns = _turns(rng)
    audio = np.stack([bursts(*turns, rate=rate, seed=c) for c in range(channels)], axis=1).tobytes()
    first = start(AudioFormat(Encoding.PCM_S16LE, rate, channels))
    one = _played(random.Random(seed), audio, Mode.SEGMENTED, first, answers=False)
    other = _played(random.Random(seed + 1), audio, Mode.SEGMENTED, first, answers=True)
    for channel in range(channels):
        for kind in (SpeechStarted, SpeechEnded, Segment):
            told = [[e for e in o.of(kind) if e.channel == channel] for o in (one, other)]
            assert told[0] == told[1]
    assert one.events[-1] == other.events[-1]


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_every_frame_of_simple_is_answered_once_in_order(seed: int, fixed: bool) -> None:
    rng = random.Random(seed)
    data = bursts(*_turns(rng)).tobytes()
    first = start(chunk_ms=rng.choice([20, 100, 333]) if fixed else None)
    outside = _played(rng, data, Mode.SIMPLE, first, answers=True)
    position = 0
    for piece in outside.finals:
        assert piece.start == position
        assert read(piece.output) == {"count": piece.end - piece.start}
        position = piece.end
    assert position == len(data) // 2
    assert outside.events[-1] == Finished(outside.events[-1].reason, position, position, len(outside.finals), 0)
    if fixed:
        lengths = {piece.end - piece.start for piece in outside.finals[:-1]}
        assert lengths <= {first.chunk_ms * 16}


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_final_follows_its_speech_end_and_ends_its_interims(seed: int) -> None:
    rng = random.Random(seed)
    data = bursts(*_turns(rng)).tobytes()
    outside = _played(rng, data, Mode.SEGMENTED, start(interim_results=True), answers=True)
    opened = ended = finals = 0
    for event in outside.events:
        match event:
            case SpeechStarted():
                assert opened == ended
                opened += 1
            case SpeechEnded():
                ended += 1
                assert ended == opened
            case Segment(is_final=True):
                finals += 1
                assert event.segment_id == finals <= ended
            case Segment():
                assert event.segment_id == opened == ended + 1, "an interim belongs to the speech that is open"
    assert finals == ended == opened


def test_interims_come_only_when_asked_for() -> None:
    data = bursts(0.3, 3.0, 1.0).tobytes()
    assert not _played(random.Random(1), data, Mode.SEGMENTED, start(), answers=False).interims
    assert _played(random.Random(1), data, Mode.SEGMENTED, start(interim_results=True), answers=True).interims


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_results_leave_in_stream_order_whatever_the_order_of_answers(seed: int) -> None:
    rng = random.Random(seed)
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=8))
    outside.say(start(chunk_ms=50), Audio(bursts(2.0).tobytes()), Stop())
    outside.settle(rng)
    assert [piece.segment_id for piece in outside.finals] == list(range(1, 41))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_what_fails_is_named_by_its_range_and_the_sum_closes(seed: int) -> None:
    rng = random.Random(seed)

    def flaky(job: Job) -> Outcome:
        return JobFailed(ErrorCode.MODEL_ERROR, "no") if rng.random() < 0.3 else count_samples(job)

    outside = SessionHarness(SessionSettings(Mode.SIMPLE, limits=Limits(max_model_failures=10_000)), flaky)
    outside.say(start(chunk_ms=100), Audio(bursts(3.0).tobytes()), Stop())
    outside.settle(rng)
    ranges = sorted((e.start, e.end) for e in outside.of(Segment, ErrorEvent))
    assert ranges == [(at, at + 1_600) for at in range(0, 48_000, 1_600)]
    lost = sum(e.end - e.start for e in outside.of(ErrorEvent))
    last = outside.events[-1]
    assert isinstance(last, Finished)
    assert (last.received, last.processed, last.failed) == (48_000, 48_000 - lost, len(outside.of(ErrorEvent)))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_flushed_comes_after_the_results_before_it_and_the_clock_goes_on(seed: int) -> None:
    rng = random.Random(seed)
    mode = rng.choice(list(Mode))
    outside = SessionHarness(SessionSettings(mode))
    loud = bursts(0.0, 1.0).tobytes()
    outside.say(start(), Audio(loud), Flush("a"), Audio(loud), Flush("b"), Audio(loud), Stop())
    outside.settle(rng)
    names = [
        e.id if isinstance(e, Flushed) else e.end
        for e in outside.events
        if isinstance(e, Flushed) or (isinstance(e, Segment) and e.end % 16_000 == 0)
    ]
    assert names == [16_000, "a", 32_000, "b", 48_000]
    assert outside.events[-1].received == 48_000


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_whatever_a_client_does_each_stream_has_one_closing_event_and_is_released(seed: int) -> None:
    rng = random.Random(seed)

    def flaky(job: Job) -> Outcome:
        return JobFailed(ErrorCode.MODEL_CRASHED, "no") if rng.random() < 0.1 else Output.of([1])

    outside = SessionHarness(SessionSettings(rng.choice(list(Mode))), flaky)
    for _ in range(rng.randrange(5, 60)):
        match rng.randrange(5):
            case 0 if outside.scores:
                outside.score_one(rng.randrange(len(outside.scores)))
            case 1 if outside.jobs:
                outside.infer_one(rng.choice(list(outside.jobs)))
            case 2 if rng.random() < 0.2:
                outside.pass_time(rng.choice([0.1, 2.5, 40.0]))
            case _ if not outside.closes:
                outside.say(_any_message(rng))
    outside.settle(rng)
    if not outside.closes:
        outside.take(outside.session.on_disconnect(outside.now))
    fatal = [e for e in outside.of(ErrorEvent) if e.fatal]
    assert len(outside.of(Started)) == len(outside.released)
    assert len(fatal) <= 1
    assert outside.session.deadline is None
    assert outside.session.backlog_s == 0
    if fatal:
        assert outside.events[-1] == fatal[0], "a fatal error is the last event"
        assert outside.closes[0].code == fatal[0].code
    assert not outside.session.receive(Audio(b"late"), outside.now)


def _any_message(rng: random.Random) -> Message:
    choices: list[Message] = [
        start(interim_results=rng.random() < 0.5),
        Start(AudioFormat(Encoding.MULAW, 8_000, 2)),
        Start(AudioFormat(Encoding.PCM_F32LE, 44_100, 1), chunk_ms=100),
        Flush("f"),
        Stop(keep_open=rng.random() < 0.9),
        KeepAlive(),
        Malformed(ErrorCode.BAD_REQUEST, "broken"),
    ]
    if rng.random() < 0.6:
        return Audio(bursts(rng.uniform(0, 1), rng.uniform(0, 1), seed=rng.randrange(9)).tobytes()[rng.randrange(2) :])
    return rng.choice(choices)


def test_streams_said_all_at_once_are_taken_in_the_order_they_were_said() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE))
    for seconds in (1.0, 0.5, 0.25):
        outside.say(start(), Audio(bursts(seconds).tobytes()))
    outside.say(Stop())
    outside.settle()
    assert [e.received for e in outside.of(Finished)] == [16_000, 8_000, 4_000]


@pytest.mark.parametrize("mode", list(Mode))
def test_times_start_again_at_zero_after_a_restart(mode: Mode) -> None:
    outside = SessionHarness(SessionSettings(mode))
    loud = bursts(0.5, 1.0, 1.0).tobytes()
    outside.say(start(), Audio(loud), start(), Audio(loud), Stop(keep_open=True), Audio(loud), Stop())
    outside.settle()
    finished = outside.of(Finished)
    assert [f.reason.value for f in finished] == ["restarted", "stopped", "stopped"]
    assert {f.received for f in finished} == {len(loud) // 2}
    opens = [index for index, event in enumerate(outside.events) if isinstance(event, Started)]
    firsts = [next(e.start for e in outside.events[at:] if isinstance(e, Segment)) for at in opens]
    assert len(set(firsts)) == 1
    assert outside.closes[0].code is None
