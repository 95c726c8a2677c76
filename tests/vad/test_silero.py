"""Our arithmetic equals the published network, whoever shares the batch; rows come, go and are bounded."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.vad.network import BATCH
from streamer.vad.silero import MIN_ROWS, ROW_BYTES, SileroScorer
from tests.vad.reference import Reference, graph_file
from tests.vad.speech import minute, synthetic

ROOT = Path(__file__).resolve().parents[2]
WINDOW = SileroScorer.window
TOLERANCE = 1e-5
"""What the design allows; about 3e-6 is measured."""


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    samples = minute()
    return samples[: len(samples) // WINDOW * WINDOW]


@pytest.fixture(scope="module")
def expected(speech: np.ndarray) -> np.ndarray:
    return Reference().score(speech)[0]


def close(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and float(np.abs(ours - theirs).max(initial=0)) < TOLERANCE


def test_shipped_weights_are_the_published_ones_bit_for_bit() -> None:
    published = runpy.run_path(str(ROOT / "scripts" / "extract_silero.py"))["weights"](graph_file())
    with np.load(ROOT / "src" / "streamer" / "vad" / "silero_v6.npz") as shipped:
        assert set(shipped) == set(published)
        for name, array in published.items():
            assert shipped[name].dtype == array.dtype == np.float32
            assert shipped[name].shape == array.shape
            assert shipped[name].tobytes() == array.tobytes()


def test_the_stft_filters_have_the_symmetry_that_folding_needs() -> None:
    with np.load(ROOT / "src" / "streamer" / "vad" / "silero_v6.npz") as shipped:
        cosines, sines = np.split(shipped["stft"][:, 0], 2)
    assert np.array_equal(cosines[:, 1:128], cosines[:, :128:-1])
    assert np.array_equal(sines[:, 1:128], -sines[:, :128:-1])
    assert not sines[:, [0, 128]].any()
    assert not sines[[0, 128]].any()


def test_the_minute_has_speech_and_silence(expected: np.ndarray) -> None:
    assert (expected > 0.5).mean() > 0.2
    assert (expected < 0.35).mean() > 0.1


def test_a_minute_in_one_call_equals_the_reference(speech: np.ndarray, expected: np.ndarray) -> None:
    scorer = SileroScorer()
    assert close(scorer.score([(scorer.open(), speech)])[0], expected)


def test_a_minute_window_by_window_equals_the_reference(speech: np.ndarray, expected: np.ndarray) -> None:
    scorer = SileroScorer()
    row = scorer.open()
    windows = [scorer.score([(row, speech[at : at + WINDOW])])[0] for at in range(0, len(speech), WINDOW)]
    assert close(np.concatenate(windows), expected)


@pytest.mark.parametrize("streams", [2, 3, 8, 33, 64, 65, 127, 128, 129, 200])
def test_streams_side_by_side_equal_the_reference(streams: int) -> None:
    samples = np.stack([synthetic(1.0, seed)[: 31 * WINDOW] for seed in range(streams)])
    expected = Reference(streams).score(samples)
    scorer = SileroScorer()
    rows = [scorer.open() for _ in range(streams)]
    for window in range(samples.shape[1] // WINDOW):
        cut = slice(window * WINDOW, (window + 1) * WINDOW)
        scores = scorer.score([(row, samples[row, cut]) for row in rows])
        assert close(np.concatenate(scores), expected[:, window])


def test_streams_that_join_and_leave_equal_the_reference(speech: np.ndarray, expected: np.ndarray) -> None:
    """Up to 200 streams play the same minute, each begun, cut and ended at random; rows are used again."""
    rng = np.random.default_rng(7)
    scorer = SileroScorer()
    heard: dict[int, int] = {}  # row -> windows heard so far
    finished = crowd = 0
    for _ in range(60):
        for _ in range(int(rng.integers(0, 12))):
            if len(heard) < 200:
                heard[scorer.open()] = 0
        for row in [row for row in heard if rng.random() < 0.03]:
            scorer.close(row)
            del heard[row]
            finished += 1
        batch = {row: int(rng.choice([0, 1, 1, 1, 2, 40])) for row in heard if rng.random() < 0.9}
        batch = {row: min(count, len(expected) - heard[row]) for row, count in batch.items()}
        pending = [(row, speech[heard[row] * WINDOW : (heard[row] + count) * WINDOW]) for row, count in batch.items()]
        for (row, count), scores in zip(batch.items(), scorer.score(pending), strict=True):
            assert close(scores, expected[heard[row] : heard[row] + count])
            heard[row] += count
        crowd = max(crowd, len(heard))
    assert finished > 50
    assert crowd > 100


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 2 * BATCH + 3), min_size=1, max_size=12), data=st.data())
def test_cuts_do_not_change_the_scores(counts: list[int], data: st.DataObject) -> None:
    audio = synthetic(2.0, 3)
    entries = [np.resize(np.roll(audio, 97 * i), count * WINDOW) for i, count in enumerate(counts)]
    whole = SileroScorer()
    expected = [whole.score([(whole.open(), samples)])[0] for samples in entries]
    scorer = SileroScorer()
    rows = [scorer.open() for _ in counts]
    cuts = [data.draw(st.integers(0, count)) for count in counts]
    first = scorer.score([(r, s[: c * WINDOW]) for r, s, c in zip(rows, entries, cuts, strict=True)])
    second = scorer.score([(r, s[c * WINDOW :]) for r, s, c in zip(rows, entries, cuts, strict=True)])
    for a, b, one_call in zip(first, second, expected, strict=True):
        assert close(np.concatenate([a, b]), one_call)


def test_a_stream_hears_nothing_of_its_neighbours() -> None:
    alone, beside = SileroScorer(), SileroScorer()
    voice = synthetic(1.0)[: 20 * WINDOW]
    noise = np.full(20 * WINDOW, 0.9, np.float32)
    expected = alone.score([(alone.open(), voice)])[0]
    row, other = beside.open(), beside.open()
    assert close(beside.score([(other, noise), (row, voice)])[1], expected)


def test_reset_and_reuse_start_from_zero() -> None:
    scorer = SileroScorer()
    voice = synthetic(0.5)[: 10 * WINDOW]
    row = scorer.open()
    fresh = scorer.score([(row, voice)])[0]
    again = scorer.score([(row, voice)])[0]
    assert not np.array_equal(fresh, again)
    scorer.reset(row)
    assert np.array_equal(scorer.score([(row, voice)])[0], fresh)
    scorer.close(row)
    assert scorer.open() == row
    assert np.array_equal(scorer.score([(row, voice)])[0], fresh)


def test_an_empty_entry_scores_nothing_and_changes_nothing() -> None:
    scorer = SileroScorer()
    row, other = scorer.open(), scorer.open()
    voice = synthetic(0.5)[: 4 * WINDOW]
    empty = np.empty(0, np.float32)
    expected = scorer.score([(other, voice)])[0]
    assert [len(scores) for scores in scorer.score([(row, empty)])] == [0]
    assert scorer.score([]) == []
    assert np.array_equal(scorer.score([(row, voice)])[0], expected)


def test_rows_grow_by_doubling_and_are_given_back() -> None:
    scorer = SileroScorer()
    voice = synthetic(0.5)[: 4 * WINDOW]
    kept = scorer.open()
    head = scorer.score([(kept, voice)])[0]
    rows = [scorer.open() for _ in range(1000)]
    assert scorer.rows == 1001
    assert scorer.capacity == 1024
    for row in rows:
        scorer.close(row)
    assert scorer.capacity == MIN_ROWS
    tail = scorer.score([(kept, voice)])[0]
    alone = SileroScorer()
    expected = alone.score([(alone.open(), np.concatenate([voice, voice]))])[0]
    assert close(np.concatenate([head, tail]), expected)
    assert ROW_BYTES == 1280


def test_a_high_row_that_stays_open_keeps_its_place() -> None:
    scorer = SileroScorer()
    rows = [scorer.open() for _ in range(200)]
    for row in rows[:-1]:
        scorer.close(row)
    assert scorer.capacity == 256
    assert len(scorer.score([(rows[-1], np.zeros(WINDOW, np.float32))])[0]) == 1
    scorer.close(rows[-1])
    assert scorer.capacity < 256


def test_misuse_is_refused() -> None:
    scorer = SileroScorer()
    row = scorer.open()
    window = np.zeros(WINDOW, np.float32)
    with pytest.raises(ValueError, match="row 5 is not open"):
        scorer.score([(5, window)])
    with pytest.raises(ValueError, match="once in a batch"):
        scorer.score([(row, window), (row, window)])
    with pytest.raises(ValueError, match=r"expected float32 \[k \* 512\], got float32 \[511\]"):
        scorer.score([(row, window[1:])])
    with pytest.raises(ValueError, match="got float64"):
        scorer.score([(row, window.astype(np.float64))])
    scorer.close(row)
    with pytest.raises(ValueError, match="is not open"):
        scorer.close(row)
