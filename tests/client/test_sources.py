"""Audio is cut whole, and paced against the clock without drift."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.client.sources import chunks, pace


@given(data=st.binary(max_size=300), size=st.integers(1, 400))
def test_chunks_join_to_the_whole(data: bytes, size: int) -> None:
    pieces = list(chunks(data, size))
    assert b"".join(pieces) == data
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(pieces)


class SlowClock:
    """A sleep that oversleeps, as real ones do."""

    def __init__(self, oversleeps_by: float) -> None:
        self.time = 100.0
        self.oversleeps_by = oversleeps_by

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds + self.oversleeps_by


@pytest.mark.parametrize("channels", [1, 2])
async def test_pacing_does_not_drift_and_counts_every_channel(channels: int) -> None:
    clock = SlowClock(oversleeps_by=0.004)
    second = 16_000 * 2 * channels
    pieces = chunks(bytes(10 * second), second // 100)
    times = [clock.time - 100 async for _ in pace(pieces, second, now=clock.now, sleep=clock.sleep)]
    assert len(times) == 1_000
    assert all(0 <= time - (number + 1) / 100 < 0.0041 for number, time in enumerate(times))


async def test_what_is_late_is_made_up_at_once() -> None:
    clock = SlowClock(oversleeps_by=0.0)
    source = pace([b"12"] * 4, 2.0, now=clock.now, sleep=clock.sleep)
    assert await anext(source)
    clock.time += 2.5
    late = [(await anext(source), clock.time - 100)[1] for _ in range(3)]
    assert late == [3.5, 3.5, 4.0]
