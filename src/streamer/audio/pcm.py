"""Bytes to samples: every supported encoding, cut anywhere, as float32 per channel."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import AudioFormat, Encoding

_INTEGERS: dict[Encoding, np.dtype[np.signedinteger]] = {
    Encoding.PCM_S16LE: np.dtype("<i2"),
    Encoding.PCM_S16BE: np.dtype(">i2"),
    Encoding.PCM_S32LE: np.dtype("<i4"),
}


_SCALES = {size: np.float32(2.0 ** (1 - 8 * size)) for size in (2, 4)}
"""Scales by the bytes of a sample."""


DEFERRABLE = frozenset(Encoding) - {Encoding.PCM_F64LE}
"""Encodings that are stored and decoded later, many samples at once. (float64 would need twice the memory.) float32
must be `repair` first; any bits of the others are a sample in [-1, 1]."""


def decode(encoding: Encoding, data: bytes | bytearray | memoryview) -> NDArray[np.float32]:
    """Decode whole samples in an encoding of LAZY to float32 [n] in [-1, 1], in its own memory."""
    integer = _INTEGERS.get(encoding)
    if integer is not None:
        return _scale(np.frombuffer(data, integer))
    if encoding is Encoding.PCM_F32LE:
        return np.frombuffer(data, "<f4").astype(np.float32)
    if encoding is Encoding.PCM_S24LE:
        return _scale(_widen(np.frombuffer(data, np.uint8)))
    return table(encoding)[np.frombuffer(data, np.uint8)]


class Decoder:
    """Decodes one stream. A frame that is cut in two is carried to the next push; nothing is lost or repeated.

    Signed integers are scaled by 2^(bits-1), u8 is centred at 128, G.711 is expanded to its 16-bit values. Non-finite
    floats become 0, floats outside [-1, 1] are clamped: `clamped_samples` counts both. The result is always within
    [-1, 1].
    """

    __slots__ = ("_carry", "_channels", "_encoding", "_frame_bytes", "clamped_samples")

    def __init__(self, format: AudioFormat) -> None:
        self._encoding = format.encoding
        self._channels = format.channels
        self._frame_bytes = format.frame_bytes
        self._carry = b""
        self.clamped_samples = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes of an incomplete frame. Always less than one frame."""
        return len(self._carry)

    def push(self, data: bytes | bytearray | memoryview) -> NDArray[np.float32]:
        """Decode the samples completed by `data`: [channels, n], contiguous per channel, a copy; n may be 0."""
        if self._carry:
            data = self._carry + data
            self._carry = b""
        rest = len(data) % self._frame_bytes
        if rest:
            self._carry = bytes(data[-rest:])
            data = data[:-rest]
        return self._decode(data)

    def reset(self) -> None:
        """Forget the incomplete frame and the count, for another stream of the same format."""
        self._carry = b""
        self.clamped_samples = 0

    def _decode(self, data: bytes | bytearray | memoryview) -> NDArray[np.float32]:
        match self._encoding:
            case Encoding.PCM_F32LE:
                return self._separate(self._repair(data, 4))
            case Encoding.PCM_F64LE:
                return self._separate(self._repair(data, 8))
            case lazy:
                return self._separate(decode(lazy, data))

    def _separate(self, interleaved: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._channels == 1:
            return interleaved[None]
        return np.ascontiguousarray(interleaved.reshape(-1, self._channels).T)

    def _repair(self, data: bytes | bytearray | memoryview, size: int) -> NDArray[np.float32]:
        values, clamped = repair(data, size)
        self.clamped_samples += clamped
        return values


def repair(data: bytes | bytearray | memoryview, size: int) -> tuple[NDArray[np.float32], int]:
    """Convert little-endian floats of 4 or 8 bytes to float32 in [-1, 1]; return also the number of changes.

    Values that are not finite become 0.
    """
    values: NDArray[np.floating] = np.frombuffer(data, f"<f{size}")
    bits = values.view(f"<u{size}")
    # IEEE 754 without its sign bit orders as an integer: one pass finds NaN, Inf and |x| > 1, and no signalling NaN
    # reaches the floating-point unit.
    magnitude = bits & bits.dtype.type(np.iinfo(bits.dtype).max >> 1)
    one, infinity = np.array([1, np.inf], values.dtype).view(bits.dtype)
    clamped = 0
    if magnitude.size and magnitude.max() > one:
        values = values.copy()
        values[magnitude >= infinity] = 0
        np.clip(values, -1, 1, out=values)
        clamped = int(np.count_nonzero(magnitude > one))
    return values.astype(np.float32), clamped


def _scale(samples: NDArray[np.signedinteger]) -> NDArray[np.float32]:
    # Exact up to 24 bits; 32 bits round to the nearest float32. The scale is a power of two.
    values = samples.astype(np.float32)
    values *= _SCALES[samples.itemsize]
    return values


def _widen(octets: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Convert little-endian 24-bit integers to 32-bit ones, times 256."""
    wide = np.zeros((octets.size // 3, 4), np.uint8)
    wide[:, 1:] = octets.reshape(-1, 3)
    return wide.view("<i4").reshape(-1)


@cache
def table(encoding: Encoding) -> NDArray[np.float32]:
    """Return the 256 sample values of a one-byte encoding, as float32 in [-1, 1). Read-only."""
    code = np.arange(256)
    if encoding is Encoding.MULAW:
        values = _expand_mulaw(code) / 32768
    elif encoding is Encoding.ALAW:
        values = _expand_alaw(code) / 32768
    elif encoding is Encoding.PCM_U8:
        values = (code - 128) / 128
    else:
        raise ValueError(f"{encoding} is not an encoding of one byte")
    result = values.astype(np.float32)
    result.flags.writeable = False
    return result


def _expand_mulaw(code: NDArray[np.int_]) -> NDArray[np.int_]:
    """Expand mu-law (ITU-T G.711 table 2): all bits inverted; sign, 3 bits of segment, 4 of step; bias 33."""
    code = code ^ 0xFF
    segment, step = code >> 4 & 7, code & 15
    magnitude = ((2 * step + 33) << segment) - 33
    return np.where(code & 0x80, -magnitude, magnitude) * 4


def _expand_alaw(code: NDArray[np.int_]) -> NDArray[np.int_]:
    """Expand A-law (ITU-T G.711 table 1): even bits inverted; sign (1 is positive), 3 bits of segment, 4 of step."""
    code = code ^ 0x55
    segment, step = code >> 4 & 7, code & 15
    magnitude = np.where(segment == 0, 2 * step + 1, (2 * step + 33) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude) * 8
