"""Audio that is kept as it came: cut, joined and resampled late, it is the audio that came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.deferred_decoder import AudioSamples, Pcm, decode_samples, deferred_decoder, split, windows_of
from streamer.audio.format import Encoding
from streamer.audio.pcm import DEFERRABLE, decode
from tests.audio.codings import kept, noise

WINDOW = 512
RATES = [4_000, 8_000, 16_000, 32_000, 48_000]


def test_float64_and_what_has_no_whole_ratio_is_not_kept() -> None:
    assert deferred_decoder(Encoding.PCM_F64LE, 16_000, 16_000) is None
    assert deferred_decoder(Encoding.PCM_S16LE, 44_100, 16_000) is None
    assert deferred_decoder(Encoding.MULAW, 8_000, 16_000) is deferred_decoder(Encoding.MULAW, 24_000, 48_000)


@given(
    encoding=st.sampled_from(sorted(DEFERRABLE)),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_split_audio_is_the_same_audio(encoding: Encoding, lengths: list[int], seed: int) -> None:
    data = noise(encoding, sum(lengths), seed)
    whole = decode(encoding, data)
    for audio in (Pcm(kept(encoding, 16_000), data), whole):
        for first in range(len(whole) + 1):
            head, tail = split(audio, first)
            assert (len(head), len(tail)) == (first, len(whole) - first)
            np.testing.assert_array_equal(np.concatenate((decode_samples(head), decode_samples(tail))), whole)


@given(
    encoding=st.sampled_from(sorted(DEFERRABLE)),
    rate=st.sampled_from(RATES),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_windows_are_the_same_joined_split_and_alone(
    encoding: Encoding, rate: int, counts: list[int], seed: int
) -> None:
    made = kept(encoding, rate)
    lengths = [(made.size(count * WINDOW) + made.context_bytes) // encoding.sample_bytes for count in counts]
    pieces: list[AudioSamples] = [Pcm(made, noise(encoding, length, seed)) for length in lengths]
    assert [len(piece) for piece in pieces] == [count * WINDOW for count in counts]
    together = windows_of(pieces, WINDOW)
    alone = [windows_of([piece], WINDOW) for piece in pieces]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    decoded_at_once = [decode_samples(piece) for piece in pieces]
    np.testing.assert_allclose(together.reshape(-1), np.concatenate(decoded_at_once), atol=1e-6)
    np.testing.assert_array_equal(windows_of(decoded_at_once, WINDOW).reshape(-1), np.concatenate(decoded_at_once))
    for piece, windows in zip(pieces, alone, strict=True):
        head, tail = split(piece, WINDOW)
        np.testing.assert_array_equal(windows_of([head], WINDOW), windows[:1])
        assert len(tail) == len(piece) - WINDOW
        if len(tail):
            np.testing.assert_array_equal(windows_of([tail], WINDOW), windows[1:])


@pytest.mark.parametrize("encoding", sorted(DEFERRABLE))
def test_silence_is_silent(encoding: Encoding) -> None:
    heard = decode(encoding, kept(encoding, 8_000).silence(10))
    assert len(heard) == 10
    assert np.abs(heard).max() <= 8 / 32_768, "A-law has no zero"
