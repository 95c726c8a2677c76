"""Pieces that meet without a click."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.seams import Crossfade, OverlapAdd
from streamer.errors import BadRequest

RATE = 16_000


def _noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def _tone(n: int, hz: float = 440.0, phase: float = 0.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(n) / RATE + phase)).astype(np.float32)


def spectral_flux(samples: np.ndarray, at: int, size: int = 256) -> float:
    """The greatest rise of the spectrum, as a share of its energy, between frames around `at`."""
    frames = [samples[k : k + size] * np.hanning(size) for k in range(at - 2 * size, at + size + 1, size // 4)]
    spectra = [np.abs(np.fft.rfft(frame)) for frame in frames]
    rises = [np.maximum(b - a, 0).sum() / a.sum() for a, b in itertools.pairwise(spectra)]
    return float(max(rises))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.1, 1.0, 5.0, 20.0]))
def test_pieces_that_agree_are_not_changed_by_a_crossfade(end: int, piece: int, ms: float) -> None:
    x = _noise(800)
    shared = min(end, piece, Crossfade(ms, RATE).samples)
    joined = Crossfade(ms, RATE).join(x[400 + shared - end : 400 + shared], x[400 : 400 + piece])
    assert np.array_equal(joined, x[400 : 400 + piece])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 160))
def test_a_crossfade_stays_between_its_two_pieces(seed: int, n: int) -> None:
    a, b = _noise(n, seed), _noise(n, seed + 1)
    joined = Crossfade(10, RATE).join(a, b)
    assert (joined <= np.maximum(a, b) + 1e-6).all()
    assert (joined >= np.minimum(a, b) - 1e-6).all()


def test_the_click_of_a_seam_is_there_without_a_crossfade_and_gone_with_it() -> None:
    before, after = _tone(4_000), _tone(4_000, phase=2.5)
    fade = Crossfade(20, RATE)
    shared = fade.samples
    hard = np.concatenate((before[:-shared], after))
    soft = np.concatenate((before[:-shared], fade.join(before[-shared:], after)))
    smooth = spectral_flux(before, 2_000)
    assert spectral_flux(hard, len(before) - shared) > 100 * smooth
    assert spectral_flux(soft, len(before) - shared) < spectral_flux(hard, len(before) - shared) / 3


def test_a_crossfade_joins_every_channel() -> None:
    end, piece = np.stack([_noise(160), _noise(160, 1)]), np.stack([_noise(320, 2), _noise(320, 3)])
    fade = Crossfade(10, RATE)
    joined = fade.join(end, piece)
    assert np.array_equal(joined[1], fade.join(end[1], piece[1]))
    assert np.array_equal(joined[:, 160:], piece[:, 160:])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("hann", 512, 128), ("hann", 512, 256), ("box", 320, 320), ("hamming", 400, 160), ("sine", 9, 2)]),
    st.lists(st.integers(0, 900), min_size=1, max_size=8),
)
def test_overlap_add_returns_its_input_later_whatever_the_cut(shape: tuple[str, int, int], cuts: list[int]) -> None:
    name, size, hop = shape
    n = np.arange(size)
    window = {
        "hann": np.hanning(size + 1)[:-1],
        "hamming": np.hamming(size),
        "box": np.ones(size),
        "sine": np.sin((n + 0.5) * np.pi / size),
    }[name]
    x = _noise(sum(cuts))
    stream = OverlapAdd(window, hop)
    pieces, at = [], 0
    for length in cuts:
        pieces.append(stream.push(x[at : at + length], lambda frame: frame))
        assert len(pieces[-1]) == length
        at += length
    y = np.concatenate(pieces)
    late = np.concatenate((np.zeros(stream.latency, np.float32), x))[: len(x)]
    # before the first whole frame there is silence in front of the stream, whose weights are complete as well
    assert np.allclose(y, late, atol=2e-5)


def test_an_overlap_add_hides_the_seams_of_frames_that_do_not_fit() -> None:
    phases = iter(np.linspace(0, 40, 200))

    def shifted(frame: np.ndarray) -> np.ndarray:
        return frame * np.float32(np.cos(next(phases)))

    x = _tone(8_000)
    hard = OverlapAdd(np.ones(512), 512).push(x, shifted)
    phases = iter(np.linspace(0, 40, 200))
    soft = OverlapAdd(np.hanning(513)[:-1], 128).push(x, shifted)
    assert max(spectral_flux(soft, at) for at in range(2_048, 6_000, 512)) < max(
        spectral_flux(hard, at) for at in range(2_048, 6_000, 512)
    )


@pytest.mark.parametrize(("ms", "rate"), [(0, 16_000), (-1, 16_000), (float("nan"), 16_000), (5, 0)])
def test_a_crossfade_of_nothing_is_refused(ms: float, rate: int) -> None:
    with pytest.raises(BadRequest):
        Crossfade(ms, rate)


@pytest.mark.parametrize(
    ("window", "hop"), [(np.ones(0), 1), (np.ones((2, 4)), 1), (np.ones(8), 0), (np.ones(8), 9), (np.eye(8)[0], 4)]
)
def test_a_window_that_leaves_gaps_is_refused(window: np.ndarray, hop: int) -> None:
    with pytest.raises(BadRequest):
        OverlapAdd(window, hop)
