"""Bytes kept in the pieces they came in, against the simplest thing that could be true: all of them."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streamer.audio.byte_rope import ByteRope


class RopeMachine(RuleBasedStateMachine):
    """Appends, forgets and slices in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks = ByteRope()
        self.said = b""
        self.start = self.largest = 0

    @rule(data=st.binary(max_size=20), times=st.integers(1, 100))
    def append(self, data: bytes, times: int) -> None:
        self.chunks.append(data * times)
        self.said += data * times
        self.largest = max(self.largest, len(data * times))

    @rule(distance=st.integers(-10, 3_000))
    def forget(self, distance: int) -> None:
        before = min(self.start + distance, len(self.said))
        self.chunks.forget(before)
        self.start = max(self.start, before)

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(self.start, len(self.said)))
        last = data.draw(st.integers(first, len(self.said)))
        assert self.chunks.slice(first, last) == self.said[first:last]

    @invariant()
    def all_that_is_kept_is_true(self) -> None:
        assert (self.chunks.start, self.chunks.end) == (self.start, len(self.said))
        assert self.chunks.slice(self.start, len(self.said)) == self.said[self.start :]

    @invariant()
    def no_more_is_held_than_a_piece_too_many(self) -> None:
        assert self.chunks.nbytes <= len(self.said) - self.start + self.largest + 511


RopeMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestHeld = RopeMachine.TestCase


def test_many_small_pieces_are_few() -> None:
    chunks = ByteRope()
    for _ in range(10_000):
        chunks.append(b"ab")
    assert len(chunks._pieces) <= 10_000 * 2 // 512 + 1
    assert chunks.slice(0, 20_000) == b"ab" * 10_000
