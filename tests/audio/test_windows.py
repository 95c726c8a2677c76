"""Windows: none lost, none twice, whatever the cuts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.windower import Windower
from tests.audio.cuts import pieces, sizes


@given(n=st.integers(0, 3_000), window=st.integers(1, 600), lengths=sizes)
@settings(max_examples=60, deadline=None)
def test_cuts_do_not_change_the_windows(n: int, window: int, lengths: list[int]) -> None:
    x = np.arange(n, dtype=np.float32)
    windower = Windower(window)
    seen = 0
    for cut in pieces(n, lengths):
        y = windower.push(x[cut])
        assert y.flags.c_contiguous
        np.testing.assert_array_equal(y, x[seen : seen + y.size])
        seen += y.size
        assert seen == cut.stop // window * window
        assert windower.pending == cut.stop - seen
    last = windower.flush()
    if seen == n:
        assert last is None
    else:
        assert last is not None
        padded, real = last
        assert real == n - seen
        assert padded.tolist() == [*x[seen:], *[0.0] * (window - real)]
    assert windower.pending == 0
    assert windower.flush() is None


@pytest.mark.parametrize("step", [1, 512, 1_024])
def test_a_step_at_a_time_gives_whole_windows_only(step: int) -> None:
    windower = Windower(512)
    x = np.arange(2_048, dtype=np.float32)
    windows = [windower.push(x[at : at + step]) for at in range(0, 2_048, step)]
    assert {y.size % 512 for y in windows} == {0}
    assert np.concatenate(windows).tolist() == x.tolist()


def test_a_flush_is_not_changed_by_what_follows() -> None:
    windower = Windower(4)
    windower.push(np.ones(2, np.float32))
    flushed = windower.flush()
    windower.push(np.full(3, 7, np.float32))
    assert flushed is not None
    assert flushed[0].tolist() == [1, 1, 0, 0]
    assert windower.pending == 3
