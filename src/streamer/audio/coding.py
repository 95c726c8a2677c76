"""Audio kept as it came: what turns it into samples at the rate that is wanted, much at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import Encoding
from streamer.audio.pcm import LAZY, decode
from streamer.audio.polyphase import Polyphase, polyphase

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """An encoding of LAZY, and a filter where the rates differ: then samples are kept with those around them, which
    the filter looks at. Compared by identity; `coding` keeps them."""

    encoding: Encoding
    filter: Polyphase | None
    around: int
    """Bytes in front of and behind samples that come with them."""
    before: int
    """Those of them in front, in input samples."""
    after: int
    """Those of them behind, in input samples."""

    def size(self, samples: int) -> int:
        """Bytes of so many samples (of whole input samples) at the wanted rate, without those around them."""
        inputs = samples if self.filter is None else self.filter.inputs(samples)
        return inputs * self.encoding.sample_bytes

    def count(self, size: int) -> int:
        """Samples at the wanted rate in so many bytes, those around them included."""
        inputs = (size - self.around) // self.encoding.sample_bytes
        return inputs if self.filter is None else inputs // self.filter.down * self.filter.up

    def due(self, inputs: int) -> int:
        """Samples at the wanted rate that so many input samples make in all, silence after them."""
        return inputs if self.filter is None else self.filter.due(inputs)

    @property
    def multiple(self) -> int:
        """`windows` are whole multiples of so many samples."""
        return 1 if self.filter is None else self.filter.block_out

    def silence(self, inputs: int) -> bytes:
        return _SILENCE.get(self.encoding, bytes(self.encoding.sample_bytes)) * inputs

    def decode(self, data: bytes | bytearray) -> Floats:
        """float32 [n], its own memory."""
        samples = decode(self.encoding, data)
        if self.filter is None:
            return samples
        return self.filter.between(samples, -self.before, 0, self.count(len(data)))

    def windows(self, pieces: Sequence[bytes | bytearray], window: int) -> Floats:
        """Pieces of whole windows, each with what is around it, as float32 [n, window]."""
        if self.filter is None:
            return decode(self.encoding, b"".join(pieces)).reshape(-1, window)
        step = self.size(window)
        row = step + self.around
        rows: list[bytes | bytearray] = []
        for piece in pieces:
            if len(piece) == row:
                rows.append(piece)
            else:
                rows += [piece[at : at + row] for at in range(0, len(piece) - self.around, step)]
        result, chunk = np.empty((len(rows), window), np.float32), self.filter.chunk
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            samples = decode(self.encoding, b"".join(some)).reshape(len(some), -1)
            self.filter.convert(samples, result[first : first + chunk])
        return result


class Pcm(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One channel's audio as it came, whole samples and what is around them: decoded where needed, much at once."""

    coding: Coding
    data: bytes | bytearray

    def __len__(self) -> int:
        return self.coding.count(len(self.data))

    def decode(self) -> Floats:
        """float32 [n], its own memory."""
        return self.coding.decode(self.data)


def coding(encoding: Encoding, rate_in: int, rate_out: int) -> Coding | None:
    """How audio that comes like this is kept until it is wanted at `rate_out` (Hz); None where the encoding is not of
    LAZY, or the ratio of the rates not whole."""
    if encoding not in LAZY:
        return None
    if rate_in == rate_out:
        return _coding(encoding, None)
    between = polyphase(rate_in, rate_out)
    return _coding(encoding, between) if between else None


Samples = Floats | Pcm
"""Audio of one channel, decoded or not yet."""

Kept = Floats | bytes | bytearray
"""Audio of one channel for a buffer: decoded, or in the encoding that the buffer keeps."""


def decoded(x: Samples) -> Floats:
    """float32 [n] in any case."""
    return x.decode() if isinstance(x, Pcm) else x


def split(x: Samples, first: int) -> tuple[Samples, Samples]:
    """The first so many samples, and the others."""
    if isinstance(x, Pcm):
        size, around = x.coding.size(first), x.coding.around
        return Pcm(x.coding, x.data[: size + around]), Pcm(x.coding, x.data[size:])
    return x[:first], x[first:]


def windows_of(pieces: Sequence[Samples], window: int) -> Floats:
    """Audio that is kept in one way, each piece whole windows, as float32 [n, window]: decoded in one go."""
    if isinstance(pieces[0], Pcm):
        data = [piece.data for piece in pieces if isinstance(piece, Pcm)]
        return pieces[0].coding.windows(data, window)
    return np.concatenate(pieces).reshape(-1, window)  # type: ignore[arg-type]


@cache
def _coding(encoding: Encoding, filter: Polyphase | None) -> Coding:
    if filter is None:
        return Coding(encoding, None, 0, 0, 0)
    around = (filter.before + filter.after) * encoding.sample_bytes
    return Coding(encoding, filter, around, filter.before, filter.after)


_SILENCE = {Encoding.PCM_U8: b"\x80", Encoding.MULAW: b"\xff", Encoding.ALAW: b"\xd5"}
"""A sample of it, where it is not zeros. A-law has no zero: this is the least it has."""
