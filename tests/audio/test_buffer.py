"""The sample buffers against the simplest thing that could be true: the whole stream, and what was forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamer.audio.buffer import Buffer, BufferFull, EncodedBuffer, SampleBuffer, Samples, decoded, joined, split
from streamer.audio.format import Encoding
from streamer.audio.pcm import LAZY, Pcm

MAX = 5_000


def ramp(first: int, last: int) -> np.ndarray:
    """Each sample tells its own position."""
    return np.arange(first, last, dtype=np.float32)


class Retained(RuleBasedStateMachine):
    """Appends, forgets and slices in any order; sample p always has the value p."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = self.made()
        self.start = self.end = 0
        self.taken: list[tuple[int, int, np.ndarray]] = []

    def made(self) -> Buffer:
        return SampleBuffer(MAX)

    def piece(self, first: int, last: int) -> Samples:
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
        assert self.buffer.capacity <= max(1_024, 4 * len(self.buffer))
        assert self.buffer.nbytes == 4 * self.buffer.capacity


class RetainedAsItCame(Retained):
    """The same of audio that is decoded when it is asked for."""

    def made(self) -> Buffer:
        return EncodedBuffer(Encoding.PCM_S24LE, MAX)

    def piece(self, first: int, last: int) -> Samples:
        return Pcm(Encoding.PCM_S24LE, b"".join((at % 2**23).to_bytes(3, "little") for at in range(first, last)))

    def value(self, first: int, last: int) -> np.ndarray:
        return ramp(first, last) / 2**23

    @invariant()
    def memory_is_bounded_by_what_is_retained(self) -> None:
        assert isinstance(self.buffer, EncodedBuffer)
        assert self.buffer.nbytes == 3 * (self.end - self.start)


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
    with pytest.raises(IndexError, match=r"retained \[2, 10\)"):
        buffer.slice(first, last)


def test_a_buffer_may_begin_anywhere() -> None:
    buffer = SampleBuffer(10, start=100)
    buffer.append(ramp(100, 105))
    assert (buffer.start, buffer.end) == (100, 105)
    assert buffer.slice(102, 104).tolist() == [102, 103]


@given(
    encoding=st.sampled_from(sorted(LAZY)),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_joined_or_split_audio_is_the_same_audio(encoding: Encoding, lengths: list[int], seed: int) -> None:
    noise = np.random.default_rng(seed)
    pieces = [Pcm(encoding, noise.bytes(length * encoding.sample_bytes)) for length in lengths]
    whole = np.concatenate([decoded(piece) for piece in pieces])
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(joined(pieces), whole)
    np.testing.assert_array_equal(joined([decoded(piece) for piece in pieces]), whole)
    for audio in (Pcm(encoding, b"".join(piece.data for piece in pieces)), whole):
        for first in range(len(whole) + 1):
            head, tail = split(audio, first)
            assert (len(head), len(tail)) == (first, len(whole) - first)
            np.testing.assert_array_equal(np.concatenate((decoded(head), decoded(tail))), whole)
