"""The sample buffers against the simplest thing that could be true: the whole stream, and what was forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamer.audio.buffer import Buffer, EncodedBuffer, ResampledBuffer, SampleBuffer
from streamer.audio.deferred_decoder import StoredAudio
from streamer.audio.errors import BufferFull
from streamer.audio.format import Encoding
from streamer.audio.polyphase import Polyphase, polyphase

MAX = 5_000
JOINED = 511
"""Bytes of small pieces that a piece may have been joined to, and goes with: tests/audio/test_byte_rope.py."""


def ramp(first: int, last: int) -> np.ndarray:
    """Each sample tells its own position."""
    return np.arange(first, last, dtype=np.float32)


class Retained(RuleBasedStateMachine):
    """Appends, forgets and slices in any order; sample p always has the value p."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = self.made()
        self.start = self.end = self.largest = 0
        self.taken: list[tuple[int, int, np.ndarray]] = []

    def made(self) -> Buffer:
        return SampleBuffer(MAX)

    def piece(self, first: int, last: int) -> StoredAudio:
        return ramp(first, last)

    def value(self, first: int, last: int) -> np.ndarray:
        return ramp(first, last)

    @rule(n=st.integers(0, 3_000))
    def append(self, n: int) -> None:
        x = self.piece(self.end, self.end + n)
        if self.end + n - self.start > MAX:
            with pytest.raises(BufferFull, match=f"at most {MAX}"):
                self.buffer.append(x)
        else:
            self.buffer.append(x)
            self.end += n
            self.largest = max(self.largest, len(x))

    @rule(distance=st.integers(-100, MAX + 100))
    def forget(self, distance: int) -> None:
        before = self.start + distance
        self.buffer.forget(before)
        self.start = min(max(self.start, before), self.end)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(self.start, self.end))
        last = data.draw(st.integers(first, self.end))
        self.taken.append((first, last, self.buffer.slice(first, last)))

    @invariant()
    def positions_are_true(self) -> None:
        assert (self.buffer.start, self.buffer.end) == (self.start, self.end)
        np.testing.assert_array_equal(self.buffer.slice(self.start, self.end), self.value(self.start, self.end))

    @invariant()
    def slices_outlive_what_follows(self) -> None:
        for first, last, piece in self.taken:
            np.testing.assert_array_equal(piece, self.value(first, last))

    @invariant()
    def memory_is_bounded_by_what_is_retained(self) -> None:
        assert isinstance(self.buffer, SampleBuffer)
        assert self.buffer.nbytes <= 4 * (self.end - self.start + self.largest) + 511


class RetainedAsItCame(Retained):
    """The same of audio that is decoded when it is asked for."""

    def made(self) -> Buffer:
        return EncodedBuffer(Encoding.PCM_S24LE, MAX)

    def piece(self, first: int, last: int) -> StoredAudio:
        return b"".join((at % 2**23).to_bytes(3, "little") for at in range(first, last))

    def value(self, first: int, last: int) -> np.ndarray:
        return ramp(first, last) / 2**23

    @invariant()
    def memory_is_bounded_by_what_is_retained(self) -> None:
        assert isinstance(self.buffer, EncodedBuffer)
        assert self.buffer.nbytes <= 3 * (self.end - self.start) + self.largest + JOINED


class RetainedAtAnotherRate(Retained):
    """With ends between: any slice is the bits of the whole, resampled at once."""

    def __init__(self) -> None:
        self.polyphase = self.between()
        self.noise = np.random.default_rng(0).integers(-(2**15), 2**15, 100_000).astype("<i2")
        self.come = 0
        super().__init__()

    def made(self) -> Buffer:
        return ResampledBuffer(Encoding.PCM_S16LE, self.polyphase, MAX)

    def value(self, first: int, last: int) -> np.ndarray:
        heard = (self.noise[: self.come] / 2**15).astype(np.float32)
        return self.polyphase.convert_range(heard, 0, first, last)

    def between(self) -> Polyphase:
        made = polyphase(48_000, 16_000)
        assert made is not None
        return made

    @rule(n=st.integers(0, 6_000))
    def append(self, n: int) -> None:
        x = self.noise[self.come : self.come + n].tobytes()
        try:
            self.buffer.append(x)
        except BufferFull:
            assert self.polyphase.output_count(self.come + len(x) // 2) - self.start > MAX
            return
        self.come += len(x) // 2
        self.largest = max(self.largest, len(x))
        self.end = max(self.end, self.polyphase.output_ready(self.come))

    @rule()
    def seal(self) -> None:
        """What is asked for at an end is forgotten before audio follows, as a segmenter does it."""
        self.buffer.seal()
        self.end = self.polyphase.output_count(self.come)
        heard = self.value(self.start, self.end)
        np.testing.assert_array_equal(self.buffer.slice(self.start, self.end), heard)
        self.forget(self.end - self.start)

    @invariant()
    def positions_are_true(self) -> None:
        """Without a slice of everything, which would leave the buffer nothing to resample anew."""
        assert (self.buffer.start, self.buffer.end) == (self.start, self.end)

    @invariant()
    def memory_is_bounded_by_what_is_retained(self) -> None:
        assert isinstance(self.buffer, ResampledBuffer)
        between = self.polyphase
        around = between.context_before + between.context_after + between.down
        inputs = min(self.come - between.inputs(self.start), between.inputs(MAX)) + around
        assert self.buffer.nbytes <= 2 * inputs + 2 * self.largest + 2 * JOINED + 8 * MAX


class RetainedResampledEarly(RetainedAtAnotherRate):
    """The same with fewer bytes than would be retained: what is past them is resampled before it is asked for."""

    MAX_RAW = 2_000

    def made(self) -> Buffer:
        return ResampledBuffer(Encoding.PCM_S16LE, self.polyphase, MAX, self.MAX_RAW)

    @invariant()
    def memory_is_bounded_by_what_is_retained(self) -> None:
        assert isinstance(self.buffer, ResampledBuffer)
        around = 2 * (self.polyphase.context_before + self.polyphase.context_after + self.polyphase.down)
        assert self.buffer._raw.nbytes <= max(self.MAX_RAW, around) + self.largest + JOINED
        decoded = 4 * max(self.end - self.start, MAX if self.taken else 0)
        assert self.buffer.nbytes <= max(self.MAX_RAW, around) + 2 * self.largest + 2 * JOINED + decoded


class RetainedDoubled(RetainedAtAnotherRate):
    """The same from a telephone."""

    def between(self) -> Polyphase:
        made = polyphase(8_000, 16_000)
        assert made is not None
        return made


for machine in (RetainedAtAnotherRate, RetainedDoubled, RetainedResampledEarly):
    machine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestRetainedAtAnotherRate = RetainedAtAnotherRate.TestCase
TestRetainedDoubled = RetainedDoubled.TestCase
TestRetainedResampledEarly = RetainedResampledEarly.TestCase
RetainedAsItCame.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRetainedAsItCame = RetainedAsItCame.TestCase
Retained.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRetained = Retained.TestCase


def test_memory_shrinks_after_a_long_utterance() -> None:
    buffer = SampleBuffer(30 * 16_000)
    for at in range(0, 30 * 16_000, 512):
        buffer.append(ramp(at, min(at + 512, 30 * 16_000)))
    buffer.forget(buffer.end - 9_600)
    assert buffer.nbytes <= 1.5 * 4 * 9_600


def test_a_long_stream_in_silence_stays_small() -> None:
    buffer = SampleBuffer(30 * 16_000)
    for at in range(0, 600 * 16_000, 512):
        buffer.append(np.zeros(512, np.float32))
        buffer.forget(at + 512 - 9_600)
        assert buffer.nbytes <= 64 * 1024
    assert buffer.end == 600 * 16_000


def test_a_long_utterance_of_large_samples_takes_the_memory_of_decoded_ones() -> None:
    made = polyphase(48_000, 16_000)
    assert made is not None
    buffer = ResampledBuffer(Encoding.PCM_F32LE, made, 31 * 16_000, 256 * 1024)
    for _ in range(30):
        buffer.append(bytes(4 * 48_000))
        assert buffer.nbytes <= 4 * (buffer.end - buffer.start) + 512 * 1024
    held = buffer.nbytes
    assert len(buffer.slice(0, buffer.end)) == buffer.end
    assert buffer.nbytes <= held


def test_a_slice_is_read_only() -> None:
    buffer = SampleBuffer(10)
    buffer.append(ramp(0, 5))
    with pytest.raises(ValueError, match="read-only"):
        buffer.slice(0, 5)[0] = 1


@pytest.mark.parametrize(("first", "last"), [(1, 4), (3, 11), (5, 4), (-3, 5)])
def test_what_is_not_retained_cannot_be_sliced(first: int, last: int) -> None:
    buffer = SampleBuffer(10)
    buffer.append(ramp(0, 10))
    buffer.forget(2)
    with pytest.raises(IndexError, match=r"stored \[2, 10\)"):
        buffer.slice(first, last)


def test_a_buffer_may_begin_anywhere() -> None:
    buffer = SampleBuffer(10, start=100)
    buffer.append(ramp(100, 105))
    assert (buffer.start, buffer.end) == (100, 105)
    assert buffer.slice(102, 104).tolist() == [102, 103]


def test_a_large_piece_of_which_little_is_needed_gives_its_memory_back() -> None:
    buffer = SampleBuffer(200_000)
    buffer.append(ramp(0, 100_000))
    buffer.forget(99_999)
    assert buffer.nbytes == 4
    assert buffer.slice(99_999, 100_000).tolist() == [99_999]


def test_what_was_resampled_is_not_kept_as_bytes_too() -> None:
    made = polyphase(48_000, 16_000)
    assert made is not None
    buffer = ResampledBuffer(Encoding.PCM_S16LE, made, 160_000)
    buffer.append(bytes(2 * 48_000))
    buffer.forget(999)
    buffer.slice(1_000, buffer.end)
    assert buffer._raw.nbytes < 4_096 + 2 * 48
