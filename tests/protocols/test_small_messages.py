"""Small messages: as many as a client needs, and no flood of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.protocols.small_messages import MAX_SMALL_MESSAGES, SMALL_BYTES, SmallMessages


@given(st.lists(st.integers(SMALL_BYTES, 8_000), max_size=50))
def test_messages_of_real_audio_are_never_too_many(sizes: list[int]) -> None:
    small = SmallMessages()
    assert not any(small.take(size) for size in sizes for _ in range(100))


def test_the_limit_of_empty_messages_is_exact_and_audio_restores_it() -> None:
    small = SmallMessages()
    assert not any(small.take(0) for _ in range(MAX_SMALL_MESSAGES))
    assert small.take(SMALL_BYTES * 2) is None
    assert small.take(0) is None
    error = small.take(0)
    assert error is not None
    assert error.fatal
