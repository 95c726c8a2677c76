"""Audio out: exact lengths and positions, silence for what failed, bounds, pacing, clearing."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio.encode import encode
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder
from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, JobKind, Outcome, Output
from streamer.session.events import (
    Ack,
    AudioChunk,
    AudioEnded,
    AudioResumed,
    AudioStarted,
    Cleared,
    ErrorEvent,
    Finished,
    Flushed,
    Mode,
    Segment,
    Started,
)
from streamer.session.messages import Audio, AudioOutFormat, Clear, Flush, Start, Stop
from streamer.session.settings import AudioOutSettings, Limits, ModelOutput, SessionSettings
from tests.session.harness import SessionHarness, bursts, cut, start

RATE = 16_000
S16 = AudioOutFormat(Encoding.PCM_S16LE, RATE)


def echo(job: Job) -> Outcome:
    return spoken(job.samples)


def spoken(samples: np.ndarray, *, partial: bool = False) -> Output:
    value = msgspec.Raw(b"" if partial else b"null")
    return Output(value, partial, audio=np.ascontiguousarray(samples, np.float32).tobytes())


MONO = AudioFormat(Encoding.PCM_S16LE, RATE, 1)
AS_IT_IS = ModelOutput(RATE)


def simple(model: ModelOutput = AS_IT_IS, **more: object) -> SessionSettings:
    return SessionSettings(Mode.SIMPLE, model_output=model, **more)  # type: ignore[arg-type]


def segmented(model: ModelOutput = AS_IT_IS, **more: object) -> SessionSettings:
    return SessionSettings(Mode.SEGMENTED, model_output=model, **more)  # type: ignore[arg-type]


def asking(form: AudioFormat = MONO, **more: object) -> Start:
    return start(form, **{"audio_out": S16, **more})


def noise(n: int, channels: int = 1, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(-20_000, 20_000, n * channels).astype("<i2").tobytes()


def heard(outside: SessionHarness) -> bytes:
    return b"".join(event.data for event in outside.of(AudioChunk))


def pcm(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2")


def play(outside: SessionHarness, first: Start, data: bytes, rng: random.Random | None = None) -> SessionHarness:
    rng = rng or random.Random(0)
    outside.say(first)
    for message in cut(data, [rng.randint(1, 9_000) for _ in range(len(data) // 9_000 + 200)]):
        outside.say(message)
        while outside.jobs and rng.random() < 0.4:
            outside.infer_one(rng.choice(list(outside.jobs)))
    outside.say(Stop())
    outside.settle(rng)
    while not outside.of(Finished) and not outside.closes:
        outside.pass_time(0.05)
    return outside


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40_000), st.sampled_from([1, 2, 3]), st.sampled_from([None, 20, 333]))
def test_samples_out_are_samples_in_whatever_the_cut_and_the_order_of_answers(
    seed: int, n: int, channels: int, chunk_ms: int | None
) -> None:
    data = noise(n, channels)
    first = asking(AudioFormat(Encoding.PCM_S16LE, RATE, channels), chunk_ms=chunk_ms)
    outside = play(SessionHarness(simple(), echo), first, data, random.Random(seed))
    assert heard(outside) == data
    assert not outside.of(ErrorEvent)


@settings(max_examples=100, deadline=None)
@example(0, 283, 44_100, 8_000, 8_000)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 30_000),
    st.sampled_from([8_000, 16_000, 44_100, 48_000]),
    st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]),
    st.sampled_from([8_000, 16_000, 24_000]),
)
def test_frames_out_are_frames_in_at_the_asked_rate_rounded_once(
    seed: int, n: int, rate_in: int, rate_out: int, rate_model: int
) -> None:
    def double(job: Job) -> Outcome:
        end, begin = ((2 * at * rate_model + RATE) // (2 * RATE) for at in (job.end, job.start))
        return spoken(np.zeros(end - begin))

    first = asking(AudioFormat(Encoding.PCM_S16LE, rate_in, 1), audio_out=AudioOutFormat(Encoding.PCM_S16LE, rate_out))
    outside = play(SessionHarness(simple(ModelOutput(rate_model)), double), first, noise(n), random.Random(seed))
    assert not outside.of(ErrorEvent)
    assert len(heard(outside)) // 2 == (2 * n * rate_out + rate_in) // (2 * rate_in)


@pytest.mark.parametrize("encoding", sorted(set(Encoding)))
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_every_encoding_comes_back_as_it_went_at_every_rate(encoding: Encoding, rate: int) -> None:
    """Through the model's 16 kHz and back, a tone in the band of both rates is what it was."""
    form = AudioFormat(encoding, rate, 1)
    tone = (0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    data = encode(encoding, tone)
    first = asking(form, audio_out=AudioOutFormat(encoding, rate))
    outside = play(SessionHarness(simple(), echo), first, data)
    sent, back = Decoder(form).push(data)[0], Decoder(form).push(heard(outside))[0]
    assert len(back) == len(sent)
    step = {Encoding.PCM_U8: 0.01, Encoding.MULAW: 0.03, Encoding.ALAW: 0.03}.get(encoding, 0.0005)
    tolerance = step if rate != RATE else 1e-6
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(back[middle] - sent[middle]).max() <= tolerance


def late_by(latency: int) -> Callable[[Job], Outcome]:
    past: dict[int, np.ndarray] = {}

    def model(job: Job) -> Outcome:
        line = np.concatenate((past.get(job.channel, np.zeros(latency, np.float32)), job.samples))
        past[job.channel] = line[len(job.samples) :]
        return spoken(line[: len(job.samples)])

    return model


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 20_000), st.sampled_from([1, 160, 512, 4_800]))
def test_the_latency_of_a_model_is_taken_out_and_its_last_audio_is_got(seed: int, n: int, latency: int) -> None:
    data = noise(n, 2)
    model = ModelOutput(RATE, latency_ms=1000 * latency / RATE)
    first = asking(AudioFormat(Encoding.PCM_S16LE, RATE, 2), chunk_ms=20)
    outside = play(SessionHarness(simple(model, stateful=True), late_by(latency)), first, data, random.Random(seed))
    assert heard(outside) == data
    [finished] = outside.of(Finished)
    assert finished.processed == finished.received == n
    assert all(segment.end <= n for segment in outside.finals)


def test_a_model_of_two_channels_answers_with_two_for_each() -> None:
    def wide(job: Job) -> Outcome:
        return spoken(np.stack([job.samples, -job.samples]))

    data = noise(4_000, 2)
    first = asking(AudioFormat(Encoding.PCM_S16LE, RATE, 2))
    outside = play(SessionHarness(simple(ModelOutput(RATE, channels=2)), wide), first, data)
    sent, back = pcm(data).reshape(-1, 2), pcm(heard(outside)).reshape(-1, 4)
    [started] = outside.of(Started)
    assert started.audio_out.channels == 4
    assert np.array_equal(back, np.stack([sent[:, 0], -sent[:, 0], sent[:, 1], -sent[:, 1]], axis=1))


def test_a_piece_that_failed_is_silence_of_its_length_and_an_error_of_its_range() -> None:
    def sometimes(job: Job) -> Outcome:
        failed = job.start == 3_200
        return JobFailed(ErrorCode.MODEL_ERROR, "no") if failed else echo(job)

    data = noise(8_000)
    outside = play(SessionHarness(simple(), sometimes), asking(chunk_ms=100), data)
    expected = pcm(data).copy()
    expected[3_200:4_800] = 0
    assert np.array_equal(pcm(heard(outside)), expected)
    [error] = outside.of(ErrorEvent)
    assert (error.start, error.end, error.fatal) == (3_200, 4_800, False)


@pytest.mark.parametrize("extra", [-1, 1, -1_600, 1_600], ids=["one_too_few", "one_too_many", "none", "twice"])
def test_an_answer_of_the_wrong_length_is_an_error_and_silence_of_the_right_one(extra: int) -> None:
    def wrong(job: Job) -> Outcome:
        return spoken(np.ones(len(job.samples) + extra * (job.start == 1_600)) * 0.5)

    outside = play(SessionHarness(simple(), wrong), asking(chunk_ms=100), noise(4_800))
    back = pcm(heard(outside))
    assert len(back) == 4_800
    assert not back[1_600:3_200].any()
    assert back[3_200:].all()
    [error] = outside.of(ErrorEvent)
    assert error.code is ErrorCode.MODEL_ERROR
    assert f"expected 1600 samples for a piece of 0.1 s, got {1_600 + extra}" in error.message


def test_a_generators_parts_make_a_piece_together() -> None:
    outside = SessionHarness(simple(), echo)
    outside.say(asking(chunk_ms=100), Audio(noise(3_200)))
    for number, job in list(outside.jobs.items()):
        outside.take(outside.session.on_outcome(number, spoken(job.samples[:600], partial=True), outside.now))
        outside.take(outside.session.on_outcome(number, spoken(job.samples[600:]), outside.now))
        del outside.jobs[number]
    assert heard(outside) == noise(3_200)
    assert not outside.interims


def test_without_asking_no_audio_is_sent_and_no_length_is_checked() -> None:
    outside = play(SessionHarness(simple(), lambda job: spoken(np.zeros(7))), start(), noise(8_000))
    assert not outside.of(AudioChunk, AudioStarted, ErrorEvent)
    assert outside.finals


def test_asking_a_model_without_audio_is_a_clear_error() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, "words"))
    outside.say(asking())
    [error] = outside.of(ErrorEvent)
    assert (error.code, error.fatal) == (ErrorCode.BAD_REQUEST, True)
    assert "the model words answers without audio" in error.message


@pytest.mark.parametrize("rate", [1, 0, -16_000, 10**9])
def test_asking_for_a_rate_of_1_hz_is_a_clear_error(rate: int) -> None:
    outside = SessionHarness(simple())
    outside.say(asking(audio_out=AudioOutFormat(Encoding.PCM_S16LE, rate)))
    [error] = outside.of(ErrorEvent)
    assert error.fatal
    assert "audio_out.sample_rate: expected an integer from 4000 to 192000" in error.message


# Pieces side by side ---------------------------------------------------------------------------


def test_pieces_overlap_and_fade_into_each_other_in_any_order_of_answers() -> None:
    """Each piece has its own phase: without the fade there is a step where two meet."""

    def level(job: Job) -> Outcome:
        odd = (job.start + job.overlap) // 1_600 % 2
        return spoken(np.full(len(job.samples), 0.5 if odd else -0.5))

    outside = play(SessionHarness(simple(overlap_ms=10), level), asking(chunk_ms=100), noise(16_000), random.Random(4))
    back = pcm(heard(outside)).astype(int)
    assert len(back) == 16_000
    assert np.abs(np.diff(back)).max() < 400  # of 32 768, in place of a step of that size
    assert back[1_400] < -16_000
    assert back[3_000] > 16_000
    hard = play(SessionHarness(simple(), level), asking(chunk_ms=100), noise(16_000), random.Random(4))
    assert np.abs(np.diff(pcm(heard(hard)).astype(int))).max() > 30_000


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9_000), st.sampled_from([1, 10, 200]))
def test_pieces_that_agree_where_they_overlap_are_what_was_sent(seed: int, n: int, overlap_ms: int) -> None:
    data = noise(n)
    outside = play(SessionHarness(simple(overlap_ms=overlap_ms), echo), asking(chunk_ms=20), data, random.Random(seed))
    assert heard(outside) == data


# Answers to segments ---------------------------------------------------------------------------


def reply(seconds: float) -> Callable[[Job], Outcome]:
    return lambda job: spoken(np.full(round(seconds * RATE), 0.25))


def converse(outside: SessionHarness, first: Start, *turns: float) -> SessionHarness:
    outside.say(first, Audio(bursts(*turns).tobytes()))
    while outside.scores:
        outside.score_one()
    return outside


def test_an_answer_is_announced_sent_and_ended_with_its_frames() -> None:
    outside = converse(SessionHarness(segmented(), reply(0.25)), asking(), 0.5, 1.0, 2.0)
    outside.settle()
    outside.pass_time(1.0)
    audio = outside.of(AudioStarted, AudioChunk, AudioEnded)
    [final] = outside.finals
    assert audio[0] == AudioStarted(0, 1, final.start)
    assert audio[-1] == AudioEnded(0, 1, 4_000)
    assert len(heard(outside)) == 8_000


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_an_answer_has_its_length_at_the_asked_rate(rate: int) -> None:
    first = asking(audio_out=AudioOutFormat(Encoding.PCM_S16LE, rate, paced=False))
    outside = converse(
        SessionHarness(segmented(ModelOutput(24_000)), lambda job: spoken(np.zeros(24_001))), first, 0.5, 1, 2
    )
    outside.settle()
    [ended] = outside.of(AudioEnded)
    assert ended.frames == len(heard(outside)) // 2 == (2 * 24_001 * rate + 24_000) // 48_000


def test_an_answer_is_never_further_ahead_than_the_setting_says() -> None:
    ahead = AudioOutSettings(ahead_s=0.5)
    outside = converse(SessionHarness(segmented(audio_out=ahead), reply(5.0)), asking(), 0.5, 1.0, 2.0)
    outside.settle()
    began = outside.now
    while not outside.of(AudioEnded):
        sent_s = len(heard(outside)) / 2 / RATE
        assert sent_s <= outside.now - began + 0.5 + 0.1 + 1e-6
        assert sent_s >= min(5.0, outside.now - began)
        deadline = outside.session.deadline
        assert deadline is not None
        outside.pass_time(max(0.0, deadline - outside.now))
    assert 4.3 < outside.now - began < 5.0


def test_a_client_that_saves_the_answer_gets_it_at_once() -> None:
    first = asking(audio_out=AudioOutFormat(Encoding.PCM_S16LE, RATE, paced=False))
    outside = converse(SessionHarness(segmented(), reply(5.0)), first, 0.5, 1.0, 2.0)
    outside.settle()
    assert [ended.frames for ended in outside.of(AudioEnded)] == [5 * RATE]


def test_an_answer_begins_before_the_model_has_ended_it() -> None:
    outside = converse(SessionHarness(segmented()), asking(), 0.5, 1.0, 2.0)
    [(number, _)] = outside.jobs.items()
    outside.take(outside.session.on_outcome(number, spoken(np.zeros(1_600), partial=True), outside.now))
    assert outside.of(AudioStarted)
    assert len(heard(outside)) == 3_200
    assert not outside.finals
    outside.take(outside.session.on_outcome(number, spoken(np.zeros(0)), outside.now))
    assert [ended.frames for ended in outside.of(AudioEnded)] == [1_600]


def test_a_part_of_no_length_is_no_interim() -> None:
    outside = converse(SessionHarness(segmented()), asking(interim_results=True), 0.5, 1.0, 2.0)
    [number] = [number for number, job in outside.jobs.items() if job.kind is JobKind.FINAL]
    before = len(outside.interims)
    outside.take(outside.session.on_outcome(number, spoken(np.zeros(0), partial=True), outside.now))
    assert len(outside.interims) == before


def test_answers_of_one_channel_come_in_stream_order_and_never_mixed() -> None:
    outside = converse(SessionHarness(segmented(), reply(0.3)), asking(), 0.5, 1.0, 1.5, 1.0, 2.0)
    for number in reversed(list(outside.jobs)):
        outside.infer_one(number)
    for _ in range(40):
        outside.pass_time(0.05)
    kinds = [(type(event), event.segment_id) for event in outside.of(AudioStarted, AudioEnded)]
    assert kinds == [(AudioStarted, 1), (AudioEnded, 1), (AudioStarted, 2), (AudioEnded, 2)]


def test_audio_of_two_channels_is_announced_whenever_it_changes() -> None:
    both = np.stack([bursts(0.5, 1.0, 2.0), bursts(0.5, 1.0, 2.0, seed=1)], axis=1).tobytes()
    outside = SessionHarness(segmented(), reply(2.0))
    outside.say(asking(AudioFormat(Encoding.PCM_S16LE, RATE, 2)), Audio(both))
    outside.settle()
    for _ in range(100):
        outside.pass_time(0.05)
    current = None
    frames = {0: 0, 1: 0}
    for event in outside.of(AudioStarted, AudioResumed, AudioChunk):
        if isinstance(event, AudioChunk):
            assert event.channel == current
            frames[event.channel] += event.frames
        else:
            current = event.channel
    assert frames == {0: 2 * RATE, 1: 2 * RATE}
    assert outside.of(AudioResumed)


def test_audio_of_interims_is_not_sent() -> None:
    outside = SessionHarness(segmented(), reply(0.2))
    outside.say(asking(interim_results=True), Audio(bursts(0.2, 2.0).tobytes()))
    outside.settle()
    assert outside.interims
    assert not outside.of(AudioStarted)


# Clearing --------------------------------------------------------------------------------------


def test_clear_drops_what_was_not_sent_and_says_how_much() -> None:
    outside = converse(SessionHarness(segmented(), reply(5.0)), asking(), 0.5, 1.0, 2.0)
    outside.settle()
    sent = len(heard(outside)) // 2
    outside.say(Clear())
    assert outside.events[-2:] == [AudioEnded(0, 1, sent), Cleared(5 * RATE - sent)]
    outside.pass_time(5.0)
    assert len(heard(outside)) // 2 == sent


def test_clear_silences_the_answer_that_the_model_still_makes_and_not_the_next_one() -> None:
    outside = converse(SessionHarness(segmented(), reply(0.2)), asking(), 0.5, 1.0, 2.0)
    [number] = outside.jobs
    outside.take(outside.session.on_outcome(number, spoken(np.zeros(1_600), partial=True), outside.now))
    outside.say(Clear())
    outside.take(outside.session.on_outcome(number, spoken(np.zeros(1_600), partial=True), outside.now))
    outside.infer_one(number)
    assert [final.segment_id for final in outside.finals] == [1]
    assert [ended.frames for ended in outside.of(AudioEnded)] == [1_600]
    outside.say(Audio(bursts(0.5, 1.0, 2.0).tobytes()))
    outside.settle()
    assert [started.segment_id for started in outside.of(AudioStarted)] == [1, 2]


@pytest.mark.parametrize("first", [asking(), start()], ids=["audio_out", "no_audio_out"])
def test_clear_while_nothing_plays_drops_nothing(first: Start) -> None:
    outside = SessionHarness(segmented())
    outside.say(first, Clear(), Stop(keep_open=True), Clear())
    assert outside.of(Cleared) == [Cleared(0), Cleared(0)]
    assert not outside.of(ErrorEvent)


def test_clear_before_a_start_is_refused() -> None:
    outside = SessionHarness(segmented())
    outside.say(Clear())
    [error] = outside.of(ErrorEvent)
    assert error.code is ErrorCode.BAD_STATE


def test_clear_on_simple_says_how_many_frames_are_missing() -> None:
    outside = SessionHarness(simple(), echo)
    outside.reads = False
    data = noise(48_000)
    outside.say(asking(chunk_ms=100), Audio(data))
    outside.settle()
    outside.say(Clear())
    outside.reads = True
    before = len(heard(outside)) // 2
    [cleared] = outside.of(Cleared)
    assert cleared.frames > 0
    outside.take(outside.session.audio_sent(outside.unread, outside.now))
    outside.unread = 0
    outside.say(Audio(data), Stop())
    outside.settle()
    back = pcm(heard(outside))
    assert len(back) + cleared.frames == 96_000
    assert np.array_equal(back[before:], pcm(data + data)[before + cleared.frames :])


def test_a_stop_waits_for_the_answer_and_a_clear_ends_the_wait() -> None:
    outside = converse(SessionHarness(segmented(), reply(5.0)), asking(), 0.5, 1.0)
    outside.say(Stop())
    outside.settle()
    assert not outside.of(Finished)
    outside.pass_time(1.0)
    assert not outside.of(Finished)
    outside.say(Clear())
    assert outside.of(Finished)
    assert outside.closes


def test_a_flush_does_not_wait_for_the_answer_to_be_heard() -> None:
    outside = converse(SessionHarness(segmented(), reply(5.0)), asking(), 0.5, 1.0)
    outside.say(Flush("a"), Audio(b"\0\0"))
    outside.settle()
    assert outside.of(Flushed) == [Flushed("a")]
    assert outside.session.state.value == "streaming"


# Bounds ----------------------------------------------------------------------------------------


def test_the_model_waits_for_a_client_that_does_not_read() -> None:
    bounds = AudioOutSettings(max_unsent_s=2.0)
    outside = SessionHarness(simple(audio_out=bounds), echo)
    outside.reads = False
    outside.say(asking(chunk_ms=100))
    data = noise(160)
    for _ in range(2_000):
        outside.say(Audio(data))
        outside.settle()
    assert len(outside.finals) * 0.1 < 2.0 + 0.5 + 0.2 + 4 * 0.1
    assert outside.session.backlog_s > 15
    outside.reads = True
    size, outside.unread = outside.unread, 0
    outside.take(outside.session.audio_sent(size, outside.now))
    outside.say(Stop())
    outside.settle()
    assert heard(outside) == data * 2_000


def test_results_wait_with_their_audio_for_a_client_that_does_not_read() -> None:
    outside = SessionHarness(simple(), echo)
    outside.reads = False
    outside.say(asking(chunk_ms=20), *[Audio(noise(16_000, seed=second)) for second in range(10)], Flush("a"))
    outside.settle()
    heard_s = len(heard(outside)) / 2 / RATE
    assert heard_s <= 0.5 + 0.1
    assert outside.finals[-1].end / RATE <= heard_s
    assert not outside.of(Flushed)
    assert max(ack.committed for ack in outside.of(Ack)) / RATE <= heard_s
    outside.reads = True
    size, outside.unread = outside.unread, 0
    outside.take(outside.session.audio_sent(size, outside.now))
    assert [final.segment_id for final in outside.finals] == list(range(1, 501))
    assert isinstance(outside.events[-1], Flushed)


def test_an_answer_that_is_too_long_to_keep_is_cut_and_named() -> None:
    bounds = AudioOutSettings(max_unsent_s=2.0)
    outside = converse(SessionHarness(segmented(audio_out=bounds)), asking(), 0.5, 1.0, 2.0)
    [number] = outside.jobs
    for _ in range(300):
        outside.take(outside.session.on_outcome(number, spoken(np.ones(RATE), partial=True), outside.now))
    assert outside.session.held_bytes < 16 * 2 * RATE * 2
    outside.take(outside.session.on_outcome(number, spoken(np.ones(0)), outside.now))
    [error] = outside.of(ErrorEvent)
    assert "cut: expected at most 4 s" in error.message
    for _ in range(200):
        outside.pass_time(0.05)
    assert [ended.frames < 7 * RATE for ended in outside.of(AudioEnded)] == [True]


def test_a_client_that_listens_is_not_idle() -> None:
    limits = Limits(idle_timeout_s=3.0)
    outside = converse(SessionHarness(segmented(limits=limits), reply(8.0)), asking(), 0.5, 1.0, 2.0)
    outside.settle()
    for _ in range(150):
        outside.pass_time(0.05)
    assert not outside.closes
    for _ in range(100):
        outside.pass_time(0.05)
    assert [close.code for close in outside.closes] == [ErrorCode.IDLE_TIMEOUT]


def test_a_server_that_shuts_down_sends_the_rest_of_an_answer_at_once() -> None:
    outside = converse(SessionHarness(segmented(), reply(30.0)), asking(), 0.5, 1.0, 2.0)
    outside.settle()
    outside.take(outside.session.finish(outside.now))
    outside.settle()
    assert [ended.frames for ended in outside.of(AudioEnded)] == [30 * RATE]
    assert outside.closes


def test_a_last_answer_that_fails_leaves_silence_and_the_stream_complete() -> None:
    def model(job: Job) -> Outcome:
        return JobFailed(ErrorCode.MODEL_ERROR, "no") if job.segment_id == 0 else echo(job)

    outside = SessionHarness(simple(ModelOutput(RATE, latency_ms=20), stateful=True), model)
    play(outside, asking(chunk_ms=100), noise(4_800))
    assert len(heard(outside)) // 2 == 4_800
    [error] = outside.of(ErrorEvent)
    assert error.start is None
    assert "the last audio out is silent" in error.message
    assert isinstance(outside.events[-1], Finished)


def test_the_same_answer_follows_a_restart_on_the_same_connection() -> None:
    outside = SessionHarness(simple(ModelOutput(RATE, latency_ms=10), stateful=True), echo)
    outside.say(asking(chunk_ms=100), Audio(noise(1_600)), asking(chunk_ms=100), Audio(noise(3_200)), Stop())
    outside.settle()
    assert [finished.received for finished in outside.of(Finished)] == [1_600, 3_200]
    assert len(heard(outside)) // 2 == 4_800


def test_kinds_of_jobs_stay_as_they_are() -> None:
    outside = SessionHarness(simple(ModelOutput(RATE, latency_ms=10), stateful=True), echo)
    outside.say(asking(chunk_ms=100), Audio(noise(1_600)), Stop())
    seen = []
    while outside.jobs:
        seen += [(job.segment_id, job.kind, job.start, job.end) for job in outside.jobs.values()]
        outside.infer_one(next(iter(outside.jobs)))
    assert seen == [(1, JobKind.PIECE, 0, 1_600), (0, JobKind.PIECE, 1_600, 1_760)]
    assert [(s.start, s.end) for s in outside.finals if isinstance(s, Segment)] == [(0, 1_600)]
