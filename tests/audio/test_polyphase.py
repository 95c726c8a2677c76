"""Resampling by whole factors: no state, the same bits in any company and however a range is divided."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.polyphase import GRID_BLOCKS, Polyphase, polyphase

WHOLE = [(8_000, 16_000), (48_000, 16_000), (32_000, 16_000), (192_000, 16_000), (16_000, 8_000), (8_000, 24_000)]


def between(rates: tuple[int, int]) -> Polyphase:
    made = polyphase(*rates)
    assert made is not None
    return made


def noise(n: int) -> np.ndarray:
    return (0.2 * np.random.default_rng(n).standard_normal(n)).astype(np.float32)


@pytest.mark.parametrize("rates", [(16_000, 16_000), (44_100, 16_000), (24_000, 16_000), (4_000, 52_000)])
def test_a_ratio_that_is_not_whole_is_left_to_others(rates: tuple[int, int]) -> None:
    assert polyphase(*rates) is None


@pytest.mark.parametrize("rates", WHOLE)
@given(data=st.data(), n=st.integers(0, 5_000))
@settings(max_examples=20, deadline=None)
def test_a_range_is_the_same_bits_however_it_is_divided(rates: tuple[int, int], data: st.DataObject, n: int) -> None:
    made, x = between(rates), noise(n)
    due = made.output_count(n)
    whole = made.convert_range(x, 0, 0, due)
    cuts = sorted({0, due, *data.draw(st.lists(st.integers(0, due), max_size=4))})
    parts = [made.convert_range(x, 0, first, last) for first, last in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate([*parts, noise(0)]), whole)


@pytest.mark.parametrize("rates", WHOLE)
@given(n=st.integers(0, 5_000), more=st.integers(0, 2_000))
@settings(max_examples=20, deadline=None)
def test_what_is_ready_does_not_depend_on_what_follows(rates: tuple[int, int], n: int, more: int) -> None:
    made, x = between(rates), noise(n + more)
    ready = made.output_ready(n)
    np.testing.assert_array_equal(made.convert_range(x[:n], 0, 0, ready), made.convert_range(x, 0, 0, ready))
    assert ready <= made.output_count(n)


@pytest.mark.parametrize("rates", WHOLE)
def test_rows_go_together_and_come_out_as_alone(rates: tuple[int, int]) -> None:
    made, rows = between(rates), 70
    looked_at = made.context_before + 4 * made.block_in + made.context_after
    x = noise(rows * looked_at).reshape(rows, looked_at)
    together = made.convert(x)
    assert together.shape == (rows, 4 * made.block_out)
    for row, converted in zip(x, together, strict=True):
        np.testing.assert_array_equal(made.convert(row[None])[0], converted)


@pytest.mark.parametrize("rates", WHOLE)
def test_a_block_is_the_range_it_covers(rates: tuple[int, int]) -> None:
    made = between(rates)
    step = GRID_BLOCKS * made.block_in
    x = noise(4 * step)
    row = x[step - made.context_before : 2 * step + made.context_after]
    first = GRID_BLOCKS * made.block_out
    np.testing.assert_array_equal(made.convert(row[None])[0], made.convert_range(x, 0, first, 2 * first))


@pytest.mark.parametrize("rates", WHOLE)
def test_no_frequency_at_all_stays_none(rates: tuple[int, int]) -> None:
    made = between(rates)
    y = made.convert_range(np.ones(20_000, np.float32), 0, 0, made.output_count(20_000))
    edge = made.output_ready(2 * made.context_before)
    np.testing.assert_allclose(y[edge:-edge], 1, atol=5e-6)  # float32 sums of up to 1 153 weights


def test_a_doubled_rate_keeps_every_sample_as_it_is() -> None:
    x = noise(3_000)
    np.testing.assert_array_equal(between((8_000, 16_000)).convert_range(x, 0, 0, 6_000)[::2], x)
