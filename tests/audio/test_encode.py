"""Encoding is the reverse of decoding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.encode import encode
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder

EXACT = sorted(set(Encoding) - {Encoding.PCM_F64LE, Encoding.PCM_S32LE})


def _decoded(encoding: Encoding, data: bytes) -> np.ndarray:
    return Decoder(AudioFormat(encoding, 16_000, 1)).push(data)[0]


@pytest.mark.parametrize("encoding", EXACT)
@given(st.binary(min_size=0, max_size=1200))
def test_what_was_decoded_is_encoded_to_the_same_samples(encoding: Encoding, data: bytes) -> None:
    data = data[: len(data) // encoding.sample_bytes * encoding.sample_bytes]
    samples = _decoded(encoding, data)
    encoded = encode(encoding, samples)
    assert len(encoded) == len(data)
    assert np.array_equal(_decoded(encoding, encoded), samples)
    if encoding not in (Encoding.PCM_F32LE, Encoding.MULAW):  # what was repaired, and the negative zero, differ
        assert encoded == data


@pytest.mark.parametrize("encoding", sorted(set(Encoding)))
def test_full_scale_is_clamped_and_never_wraps(encoding: Encoding) -> None:
    decoded = _decoded(encoding, encode(encoding, np.array([1.0, -1.0, 0.99999, 0.0], np.float32)))
    assert decoded[0] > 0.97
    assert decoded[1] < -0.97
    assert decoded[3] == pytest.approx(0.0, abs=0.001)


@pytest.mark.parametrize("encoding", sorted(set(Encoding)))
def test_an_encoded_sample_is_the_nearest_that_there_is(encoding: Encoding) -> None:
    samples = np.linspace(-0.97, 0.97, 997, dtype=np.float32)
    error = np.abs(_decoded(encoding, encode(encoding, samples)) - samples)
    step = {Encoding.PCM_U8: 1 / 256, Encoding.MULAW: 1 / 64, Encoding.ALAW: 1 / 64}.get(encoding, 1 / 65_536)
    assert error.max() <= step * 1.01
