"""Samples to bytes: float32 in every supported encoding, the reverse of `pcm`."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import Encoding
from streamer.audio.pcm import table

_FLOATS = {Encoding.PCM_F32LE: "<f4", Encoding.PCM_F64LE: "<f8"}
_INTEGERS = {
    Encoding.PCM_U8: (8, "u1"),
    Encoding.PCM_S16LE: (16, "<i2"),
    Encoding.PCM_S16BE: (16, ">i2"),
    Encoding.PCM_S24LE: (24, "<i4"),
    Encoding.PCM_S32LE: (32, "<i4"),
}


def encode(encoding: Encoding, samples: NDArray[np.float32]) -> bytes:
    """Encode samples [n]. Integers are rounded to the nearest value and clamped to full scale; floats are not clamped.

    A sample that was decoded from the same encoding (up to 24 bits) gets its old value.
    """
    if (float_type := _FLOATS.get(encoding)) is not None:
        return samples.astype(float_type).tobytes()
    if encoding in _INTEGERS:
        return _integers(encoding, samples)
    nearest, codes = _g711(encoding)
    linear = np.clip(np.rint(samples * np.float32(32_768)), -32_768, 32_767)
    data: bytes = codes[np.searchsorted(nearest, linear)].tobytes()
    return data


def _integers(encoding: Encoding, samples: NDArray[np.float32]) -> bytes:
    bits, kind = _INTEGERS[encoding]
    full = 2.0 ** (bits - 1)
    # float32 has no room for 32 bits
    wide = samples.astype(np.float64) if bits > 16 else samples
    values = np.clip(np.rint(wide * full), -full, full - 1)
    if encoding is Encoding.PCM_U8:
        values += 128
    integers = values.astype(kind)
    if encoding is not Encoding.PCM_S24LE:
        return integers.tobytes()
    return integers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


@cache
def _g711(encoding: Encoding) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Return the limits between the values of a table, in 16-bit units, and the code of each value between them."""
    values = table(encoding) * np.float32(32_768)
    order = np.argsort(values, kind="stable")
    if encoding is Encoding.MULAW:
        order = order[order != 0x7F]  # its negative zero
    rising = values[order]
    return (rising[1:] + rising[:-1]) / 2, order.astype(np.uint8)
