"""Bytes to samples: values of each encoding, cuts, hostile floats."""

from __future__ import annotations

import shutil
import struct
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder, table
from tests.audio.cuts import pieces, sizes


def decode(encoding: Encoding, data: bytes, channels: int = 1) -> NDArray[np.float32]:
    return Decoder(AudioFormat(encoding, 16_000, channels)).push(data)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        (Encoding.PCM_U8, bytes([0, 64, 128, 255]), [-1, -0.5, 0, 127 / 128]),
        (Encoding.PCM_S16LE, struct.pack("<4h", -32768, -16384, 0, 32767), [-1, -0.5, 0, 32767 / 32768]),
        (Encoding.PCM_S16BE, struct.pack(">4h", -32768, -16384, 0, 32767), [-1, -0.5, 0, 32767 / 32768]),
        (Encoding.PCM_S24LE, b"\x00\x00\x80\xff\xff\xff\x01\x00\x00\xff\xff\x7f", [-1, -(2**-23), 2**-23, 1 - 2**-23]),
        (Encoding.PCM_S32LE, struct.pack("<4i", -(2**31), -(2**30), 0, 2**31 - 1), [-1, -0.5, 0, 1]),
        (Encoding.PCM_F32LE, struct.pack("<4f", -1, -0.25, 0, 1), [-1, -0.25, 0, 1]),
        (Encoding.PCM_F64LE, struct.pack("<4d", -1, -0.25, 0, 1), [-1, -0.25, 0, 1]),
        # ITU-T G.711, table 2 (14 bits, here times 4) and table 1 (13 bits, here times 8).
        (Encoding.MULAW, bytes([0x00, 0x7F, 0xFF, 0x80]), [-32124 / 32768, 0, 0, 32124 / 32768]),
        (Encoding.MULAW, bytes([0x8F, 0xF0, 0xEF]), [16764 / 32768, 120 / 32768, 132 / 32768]),
        (Encoding.ALAW, bytes([0x2A, 0x55, 0xD5, 0xAA]), [-32256 / 32768, -8 / 32768, 8 / 32768, 32256 / 32768]),
        (Encoding.ALAW, bytes([0xC5, 0xDA]), [264 / 32768, 248 / 32768]),
    ],
)
def test_each_encoding_has_its_values(encoding: Encoding, data: bytes, expected: list[float]) -> None:
    assert decode(encoding, data).tolist() == [np.float32(expected).tolist()]


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
@pytest.mark.parametrize(
    ("encoding", "sox_type"),
    [
        (Encoding.MULAW, ["-t", "ul"]),
        (Encoding.ALAW, ["-t", "al"]),
        (Encoding.PCM_U8, ["-t", "u8"]),
        (Encoding.PCM_S16BE, ["-t", "s16", "-B"]),
        (Encoding.PCM_S24LE, ["-t", "s24", "-L"]),
    ],
)
def test_sox_decodes_the_same(encoding: Encoding, sox_type: list[str]) -> None:
    data = bytes(range(256)) * 3
    command = ["sox", "-D", *sox_type, "-r", "8000", "-c", "1", "-", "-t", "s32", "-L", "-"]
    out = subprocess.run(command, input=data, capture_output=True, check=True).stdout
    expected = np.frombuffer(out, "<i4").astype(np.float64) / 2**31
    np.testing.assert_array_equal(decode(encoding, data)[0], expected)


@pytest.mark.parametrize("encoding", Encoding)
@given(lengths=sizes, channels=st.integers(1, 8), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_cuts_do_not_change_the_samples(encoding: Encoding, lengths: list[int], channels: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(encoding.sample_bytes * channels * 40 + 5)
    whole = Decoder(AudioFormat(encoding, 16_000, channels))
    cut = Decoder(AudioFormat(encoding, 16_000, channels))
    single = Decoder(AudioFormat(encoding, 16_000, channels))
    expected = whole.push(data)
    by_cuts = np.concatenate([cut.push(memoryview(data)[piece]) for piece in pieces(len(data), lengths)], axis=1)
    by_bytes = np.concatenate([single.push(data[at : at + 1]) for at in range(len(data))], axis=1)
    np.testing.assert_array_equal(by_cuts, expected)
    np.testing.assert_array_equal(by_bytes, expected)
    assert (
        whole.pending_bytes == cut.pending_bytes == single.pending_bytes == len(data) % whole_frame(encoding, channels)
    )
    assert whole.clamped_samples == cut.clamped_samples == single.clamped_samples


def whole_frame(encoding: Encoding, channels: int) -> int:
    return AudioFormat(encoding, 16_000, channels).frame_bytes


def test_half_a_sample_is_carried_over() -> None:
    decoder = Decoder(AudioFormat(Encoding.PCM_S16LE, 16_000, 1))
    assert decoder.push(b"\x00\x40\x00").tolist() == [[0.5]]
    assert decoder.pending_bytes == 1
    assert decoder.push(b"\xc0").tolist() == [[-0.5]]
    assert decoder.pending_bytes == 0


def test_half_a_frame_at_the_end_is_told_not_decoded() -> None:
    decoder = Decoder(AudioFormat(Encoding.PCM_S16LE, 16_000, 2))
    assert decoder.push(bytes(6)).shape == (2, 1)
    assert decoder.pending_bytes == 2
    decoder.reset()
    assert decoder.pending_bytes == 0
    assert decoder.push(bytes(4)).shape == (2, 1)


@pytest.mark.parametrize("encoding", Encoding)
def test_channels_never_mix(encoding: Encoding) -> None:
    # Channel c repeats byte 16c+1 (a finite value in every encoding): it must come out as that channel alone.
    one = [bytes([16 * c + 1]) * encoding.sample_bytes for c in range(3)]
    mixed = decode(encoding, b"".join(one) * 50, channels=3)
    assert mixed.flags.c_contiguous
    assert mixed.shape == (3, 50)
    for c in range(3):
        assert set(mixed[c].tolist()) == set(decode(encoding, one[c])[0].tolist())


@pytest.mark.parametrize(("encoding", "code"), [(Encoding.PCM_F32LE, "f"), (Encoding.PCM_F64LE, "d")])
def test_hostile_floats_are_repaired_and_counted(encoding: Encoding, code: str) -> None:
    nan, inf = float("nan"), float("inf")
    tiny = 1e-40
    decoder = Decoder(AudioFormat(encoding, 16_000, 1))
    samples = decoder.push(struct.pack(f"<9{code}", nan, inf, -inf, 1e30, -1e30, 1.0, -1.0, tiny, -0.5))[0]
    assert samples.tolist() == [0, 0, 0, 1, -1, 1, -1, np.float32(tiny), -0.5]
    assert decoder.clamped_samples == 5


@pytest.mark.parametrize("encoding", [Encoding.PCM_F32LE, Encoding.PCM_F64LE])
@given(data=st.binary(max_size=256))
@settings(max_examples=50, deadline=None)
def test_any_bytes_become_samples_within_one(encoding: Encoding, data: bytes) -> None:
    samples = decode(encoding, data)
    assert np.isfinite(samples).all()
    assert (np.abs(samples) <= 1).all()


def test_samples_outlive_the_buffer_they_came_from() -> None:
    data = bytearray(struct.pack("<2f", 0.25, 0.5))
    samples = decode(Encoding.PCM_F32LE, data)
    data[:] = bytes(8)
    assert samples.tolist() == [[0.25, 0.5]]


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        table(Encoding.MULAW)[0] = 0
