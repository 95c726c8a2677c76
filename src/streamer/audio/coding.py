"""Deferred decoding: audio is stored encoded, and later decoded and resampled many samples at once."""

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
    """Decoder of an encoding of LAZY, with a filter if the rates differ.

    With a filter, samples are stored with their context, which the filter needs. Compared by identity; `coding` caches
    instances.
    """

    encoding: Encoding
    filter: Polyphase | None
    around: int
    """Bytes of context around samples."""
    before: int
    """Input samples of context before them."""
    after: int
    """Input samples of context after them."""

    def size(self, samples: int) -> int:
        """Return the bytes of `samples` samples at the output rate (whole input samples), without context."""
        inputs = samples if self.filter is None else self.filter.inputs(samples)
        return inputs * self.encoding.sample_bytes

    def count(self, size: int) -> int:
        """Return the samples at the output rate of `size` bytes, context included."""
        inputs = (size - self.around) // self.encoding.sample_bytes
        return inputs if self.filter is None else inputs // self.filter.down * self.filter.up

    def due(self, inputs: int) -> int:
        """Return the samples at the output rate of `inputs` input samples in total, followed by silence."""
        return inputs if self.filter is None else self.filter.due(inputs)

    @property
    def multiple(self) -> int:
        """Unit of `windows` in samples."""
        return 1 if self.filter is None else self.filter.block_out

    def silence(self, inputs: int) -> bytes:
        return _SILENCE.get(self.encoding, bytes(self.encoding.sample_bytes)) * inputs

    def decode(self, data: bytes | bytearray) -> Floats:
        """Decode to float32 [n] in its own memory."""
        samples = decode(self.encoding, data)
        if self.filter is None:
            return samples
        return self.filter.between(samples, -self.before, 0, self.count(len(data)))

    def windows(self, pieces: Sequence[bytes | bytearray], window: int) -> Floats:
        """Decode pieces of whole windows, each with its context, to float32 [n, window]."""
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
    """Encoded audio of one channel: whole samples and their context, decoded when needed."""

    coding: Coding
    data: bytes | bytearray

    def __len__(self) -> int:
        return self.coding.count(len(self.data))

    def decode(self) -> Floats:
        """Decode to float32 [n] in its own memory."""
        return self.coding.decode(self.data)


def coding(encoding: Encoding, rate_in: int, rate_out: int) -> Coding | None:
    """Return the decoder of stored audio for `rate_out` (Hz); None if it must be decoded at once.

    That is the case for encodings outside of LAZY, and for rates without a whole ratio.
    """
    if encoding not in LAZY:
        return None
    if rate_in == rate_out:
        return _coding(encoding, None)
    between = polyphase(rate_in, rate_out)
    return _coding(encoding, between) if between else None


Samples = Floats | Pcm
"""Audio of one channel, decoded or encoded."""

Kept = Floats | bytes | bytearray
"""Audio of one channel for a buffer: decoded, or in the encoding of the buffer."""


def decoded(x: Samples) -> Floats:
    """Return float32 [n] for either form."""
    return x.decode() if isinstance(x, Pcm) else x


def split(x: Samples, first: int) -> tuple[Samples, Samples]:
    """Split off the first `first` samples."""
    if isinstance(x, Pcm):
        size, around = x.coding.size(first), x.coding.around
        return Pcm(x.coding, x.data[: size + around]), Pcm(x.coding, x.data[size:])
    return x[:first], x[first:]


def windows_of(pieces: Sequence[Samples], window: int) -> Floats:
    """Decode pieces of whole windows with the same encoding to float32 [n, window], in one call."""
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
"""A silent sample, if it is not zeros. A-law has no zero: this is its smallest value."""
