"""Memory for audio: what a session holds is counted, bounded and given back, and a client that waits is not ended."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Close, JobKind
from streamer.session.events import ErrorEvent, Finished, Mode, Started
from streamer.session.jobs import OutstandingJobs, PendingJob
from streamer.session.memory import MemoryAccount, MemoryPool
from streamer.session.message_queue import PendingMessages
from streamer.session.messages import Audio, Flush, HalfClose, Message, Start, Stop, VadOverrides
from streamer.session.segmenter import AudioRange
from streamer.session.settings import MEMORY_SHARES, Limits, SessionSettings
from streamer.session.state import SessionState
from streamer.vad.settings import VadConfig
from tests.session.harness import SessionHarness, bursts, start

MIB = 2**20

# Pool and account -------------------------------------------------------------------------------


@given(
    st.integers(1, 2**30),
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2**28)), max_size=60),
)
def test_a_pool_holds_the_sum_of_its_accounts(most: int, sessions: int, updates: list[tuple[int, int]]) -> None:
    pool = MemoryPool(most, sessions)
    accounts = [MemoryAccount(pool) for _ in range(21)]
    for index, used in updates:
        accounts[index].update(used)
        assert pool.used == sum(account.used for account in accounts)
    for account in accounts:
        account.update(0)
    assert pool.used == 0
    assert not pool.is_scarce


@given(st.integers(1_000, 2**30), st.integers(1, 200), st.randoms(use_true_random=False))
def test_accounts_that_take_only_while_they_may_never_hold_more_than_the_pool(
    most: int, sessions: int, rng: random.Random
) -> None:
    pool = MemoryPool(most, sessions)
    accounts = [MemoryAccount(pool) for _ in range(sessions)]
    piece = max(1, most // 1_000)
    for _ in range(400):
        account = rng.choice(accounts)
        if not account.is_over:
            account.update(account.used + rng.randint(1, piece))
        else:
            account.update(account.used)
    # Each may be over by the piece with which it came to be so.
    assert pool.used <= most + sessions * piece


@given(st.integers(1, 100))
def test_greedy_accounts_leave_the_others_their_share(greedy: int) -> None:
    pool = MemoryPool(512 * MIB, 1_000)
    accounts = [MemoryAccount(pool) for _ in range(greedy)]
    piece = MIB // 8
    while growing := [account for account in accounts if not account.update(account.used)]:
        for account in growing:
            account.update(account.used + piece)
    free = pool.max_bytes - pool.used
    assert free >= pool.max_bytes * MEMORY_SHARES // (MEMORY_SHARES + greedy) - 2 * greedy * piece
    assert not MemoryAccount(pool).update(free // (MEMORY_SHARES + 1) - 1)


def test_an_account_is_over_its_own_bound_with_what_is_reserved() -> None:
    account = MemoryAccount(MemoryPool(), 100)
    assert not account.update(60, reserved=40)
    assert account.update(60, reserved=41)
    assert not account.update(100)
    assert account.update(101)
    assert not account.update(0)


# Jobs -------------------------------------------------------------------------------------------


@given(st.integers(4, 4_000), st.lists(st.tuples(st.sampled_from(JobKind), st.integers(0, 500), st.booleans())))
def test_jobs_that_are_asked_for_only_if_they_fit_stay_within_their_bound(
    most: int, asks: list[tuple[JobKind, int, bool]]
) -> None:
    jobs, out, longest = OutstandingJobs(most), [], 0
    for number, (kind, length, answers) in enumerate(asks):
        if kind is JobKind.INTERIM or jobs.has_room(length):
            jobs.add(PendingJob(number, 0, AudioRange(kind, 1, 7, 7 + length), 0.0))
            out.append((number, kind, length))
            longest = max(longest, length)
        owed = 4 * sum(length for _, kind, length in out if kind is not JobKind.INTERIM)
        assert jobs.owed_bytes == owed <= max(most, 4 * longest)
        assert jobs.nbytes == jobs.owed_bytes + jobs.interim_bytes == 4 * sum(length for _, _, length in out)
        if answers and out:
            jobs.remove(out.pop(length % len(out))[0])
    assert sorted(jobs.clear()) == sorted(number for number, _, _ in out)
    assert jobs.nbytes == len(jobs) == 0
    assert jobs.has_room(10**9), "one job is always allowed"


# Pending messages -------------------------------------------------------------------------------

ENTRIES = st.one_of(
    st.binary(min_size=1, max_size=300).map(Audio),
    st.sampled_from([65_535, 65_536, 200_000]).map(lambda size: Audio(bytes(size))),
    st.just(Flush("f")),
    st.just(Stop(keep_open=True)),
    st.just(HalfClose()),
    st.builds(lambda text: replace(start(), metadata={"k": text}, options=text.encode()), st.text(max_size=50)),
)


@given(st.lists(ENTRIES, max_size=40), st.lists(st.booleans(), max_size=60))
def test_what_is_pending_is_counted_while_it_is_and_comes_out_in_order(
    messages: list[Message], pops: list[bool]
) -> None:
    pending, left = PendingMessages(), list(messages)
    came: list[Message] = []
    for pop in pops:
        if pop and pending:
            came.append(pending.pop())
        elif left:
            pending.put(left.pop(0))  # type: ignore[arg-type]
        assert pending.nbytes >= pending.audio_bytes
        assert bool(pending) == bool(pending.nbytes)
    for message in left:
        pending.put(message)  # type: ignore[arg-type]
    while pending:
        came.append(pending.pop())
    assert pending.nbytes == pending.audio_bytes == 0
    assert joined(came) == joined(messages)


def joined(messages: list[Message]) -> list[Message]:
    """Adjacent audio as one."""
    out: list[Message] = []
    for message in messages:
        if isinstance(message, Audio) and out and isinstance(out[-1], Audio):
            out[-1] = Audio(out[-1].data + message.data)
        else:
            out.append(message)
    return out


def test_memory_of_pending_audio_is_what_it_takes() -> None:
    pending = PendingMessages()
    for _ in range(3_000):
        pending.put(Audio(bytes(700)))
    taken = sum(sys.getsizeof(entry) for entry in pending._entries)
    assert pending.nbytes <= taken <= 1.2 * pending.nbytes


# Sessions ---------------------------------------------------------------------------------------

SMALL = Limits(max_session_bytes=2 * MIB, max_audio_message_bytes=64 * 1024, max_speech_ms=600_000.0)
FORMS = st.builds(
    AudioFormat, st.sampled_from(Encoding), st.sampled_from([8_000, 16_000, 44_100, 48_000, 192_000]), st.integers(1, 8)
)
VADS = st.builds(
    VadOverrides,
    pre_speech_pad_ms=st.sampled_from([None, 0.0, 5_000.0]),
    redemption_time_ms=st.sampled_from([None, 10.0, 10_000.0]),
    max_speech_time_ms=st.sampled_from([None, 1_000.0, 30_000.0]),
    min_speech_time_ms=st.sampled_from([None, 900.0]),
)
STARTS = st.builds(
    lambda form, mode, vad, chunk_ms, interims: replace(
        Start(form), mode=mode, vad=vad, chunk_ms=chunk_ms, interim_results=interims, interim_interval_ms=200
    ),
    FORMS,
    st.sampled_from(Mode),
    VADS,
    st.sampled_from([None, 20, 2_000]),
    st.booleans(),
)


class Polite(SessionHarness):
    """A client that is not read while it is ahead, and the outside that answers it when it likes."""

    def __init__(self, model_rate: int, rng: random.Random, limits: Limits = SMALL) -> None:
        vad = VadConfig(positive_speech_threshold=0.05, negative_speech_threshold=0.03)
        self.pool = MemoryPool(100 * limits.max_session_bytes)
        super().__init__(
            SessionSettings(Mode.SEGMENTED, model_sample_rate=model_rate, vad=vad, limits=limits), pool=self.pool
        )
        self.rng = rng
        self.most = 0
        self.slowness = rng.choice([0.0, 0.5, 0.95])

    def tell(self, message: Message) -> None:
        """Say it once it is read, and answer nothing, something, or all that is outstanding."""
        load, ahead_s = self.session.load, self.session.settings.limits.audio_ahead_s
        if self.session.state is not SessionState.NEW and load.is_ahead(ahead_s):
            while not self.closes and not load.has_caught_up(ahead_s):
                assert self.scores or self.jobs, "nothing would make it less, and the client waits for ever"
                self.answer()
        if not self.closes:
            self.say(message)
            self.take(self.session.relieve(self.now))
            self.look()
        while (self.scores or self.jobs) and not self.closes and self.rng.random() > self.slowness:
            self.answer()

    def answer(self) -> None:
        self.answer_one(self.rng)
        self.look()

    def look(self) -> None:
        held = self.session.held_bytes
        self.most = max(self.most, held)
        assert self.pool.used == (0 if self.closes else held)


def sound(form: AudioFormat, seconds: float, rng: random.Random) -> bytes:
    """Loud nearly always, whatever the encoding is."""
    return rng.randbytes(round(seconds * form.sample_rate) * form.frame_bytes)


INTERIMS_BESIDE_UNREAD_AUDIO = Start(
    AudioFormat(Encoding.PCM_U8, 8_000, 6), interim_results=True, interim_interval_ms=200
)


@settings(max_examples=40)
@example(INTERIMS_BESIDE_UNREAD_AUDIO, 8_000, 0)
@given(STARTS, st.sampled_from([8_000, 16_000, 48_000]), st.integers(0, 2**32 - 1))
def test_a_client_that_waits_when_it_is_not_read_is_never_ended_and_held_within_the_bound(
    first: Start, model_rate: int, seed: int
) -> None:
    rng = random.Random(seed)
    outside = Polite(model_rate, rng)
    outside.say(first)
    if outside.closes:
        assert not outside.of(Started)
        assert "limits.max_session_bytes" in outside.of(ErrorEvent)[0].message
        return
    data = sound(first.format, min(40.0, 8 * MIB / (first.format.frame_bytes * first.format.sample_rate)), rng)
    sent = 0
    while sent < len(data):
        size = rng.choice([1_000, 20_000, 65_536])
        outside.tell(Audio(data[sent : sent + size]))
        sent += size
        if rng.random() < 0.02:
            outside.tell(Flush("f"))
    outside.tell(Stop())
    while outside.scores or outside.jobs:
        outside.answer()
    assert outside.closes == [Close(None)], outside.of(ErrorEvent)
    assert outside.of(Finished)[0].received == len(data) // first.format.frame_bytes
    assert outside.most <= 1.25 * SMALL.max_session_bytes, "with two messages, and what is converted at once"
    assert outside.pool.used == 0


def test_eight_channels_of_48_khz_floats_are_served_with_the_default_settings() -> None:
    form, limits = AudioFormat(Encoding.PCM_F32LE, 48_000, 8), Limits()
    outside = Polite(16_000, random.Random(1), limits)
    outside.slowness = 0.5
    outside.say(Start(form, interim_results=True))
    piece = np.full(8 * 4_800, 0.5, "<f4").tobytes()
    for _ in range(300):
        outside.tell(Audio(piece))
    outside.tell(Stop())
    while outside.scores or outside.jobs:
        outside.answer()
    assert outside.closes == [Close(None)]
    assert not outside.of(ErrorEvent)
    for channel in range(8):
        finals = [final for final in outside.finals if final.channel == channel]
        assert finals[-1].end == 30 * 16_000
        assert all(before.end == after.start for before, after in pairwise(finals)), "cut without a gap"
    assert outside.most <= limits.max_session_bytes


def test_a_stream_that_cannot_fit_is_refused_at_its_start() -> None:
    form = AudioFormat(Encoding.PCM_F32LE, 48_000, 8)
    limits = replace(SMALL, max_session_bytes=MIB)
    outside = SessionHarness(SessionSettings(Mode.SEGMENTED, model_sample_rate=48_000, limits=limits))
    outside.say(Start(form))
    [failed] = outside.of(ErrorEvent)
    assert (failed.code, failed.fatal) == (ErrorCode.BAD_REQUEST, True)
    assert "vad: expected" in failed.message
    assert "8 channels of pcm_f32le at 48000 Hz (limits.max_session_bytes), got" in failed.message


def test_a_session_whose_memory_others_have_taken_is_ended_by_name() -> None:
    pool = MemoryPool(9 * SMALL.max_session_bytes, 1_000)
    others = MemoryAccount(pool)
    outside = SessionHarness(SessionSettings(Mode.SEGMENTED, limits=SMALL), pool=pool)
    outside.say(start(), *[Audio(bursts(0.0, 1.0).tobytes())] * 4)
    outside.settle()
    outside.take(outside.session.relieve(outside.now))
    assert not outside.closes
    others.update(pool.max_bytes)
    outside.take(outside.session.relieve(outside.now))
    assert outside.closes == [Close(ErrorCode.OVERLOADED)]
    [failed] = outside.of(ErrorEvent)
    assert "server.max_audio_bytes" in failed.message
    assert failed.retry_after_s == outside.session.settings.retry_after_s


def test_a_client_that_is_read_no_matter_what_is_ended_at_twice_its_bytes() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=1, limits=SMALL))
    outside.say(Start(AudioFormat(Encoding.PCM_F64LE, 192_000, 8)), Audio(bytes(10 * 65_536)), Stop(keep_open=True))
    assert outside.jobs
    sent = 0
    while not outside.closes:
        outside.say(Audio(bytes(65_536)))
        sent += 65_536
        assert sent < 4 * SMALL.max_session_bytes
    assert outside.closes == [Close(ErrorCode.TOO_FAST)]
    assert "bytes of unprocessed audio" in outside.of(ErrorEvent)[-1].message


# What a client may ask for ----------------------------------------------------------------------

VAD_LIMITS = {
    "max_speech_time_ms": ("max_speech_ms", VadConfig().max_speech_time_ms),
    "pre_speech_pad_ms": ("max_speech_pad_ms", VadConfig().pre_speech_pad_ms),
    "post_speech_pad_ms": ("max_speech_pad_ms", VadConfig().post_speech_pad_ms),
    "redemption_time_ms": ("max_redemption_ms", VadConfig().redemption_time_ms),
}


@pytest.mark.parametrize("field", VAD_LIMITS)
@pytest.mark.parametrize("past", [0, 1])
def test_what_a_client_asks_of_endpointing_is_bounded_by_the_operator(field: str, past: int) -> None:
    limit, _ = VAD_LIMITS[field]
    most = getattr(Limits(), limit)
    outside = SessionHarness()
    outside.say(start(vad=VadOverrides(**{field: most + past})))
    if not past:
        assert outside.of(Started)
        return
    [failed] = outside.of(ErrorEvent)
    assert failed.fatal
    assert failed.message == f"vad.{field}: expected at most {most:g}, got {most + 1}"
    assert not outside.of(Started)


@pytest.mark.parametrize("field", VAD_LIMITS)
def test_what_the_operator_has_set_may_be_asked_for_whatever_the_limit_is(field: str) -> None:
    limit, value = VAD_LIMITS[field]
    limits = Limits(**{limit: 1.0})
    outside = SessionHarness(SessionSettings(Mode.SEGMENTED, limits=limits))
    outside.say(start(vad=VadOverrides(**{field: value})))
    assert outside.of(Started)
    assert not outside.closes
