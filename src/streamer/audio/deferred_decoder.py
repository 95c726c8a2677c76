"""Deferred decoding: audio is stored encoded, and later decoded and resampled many samples at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import Encoding
from streamer.audio.pcm import DEFERRABLE, decode
from streamer.audio.polyphase import Polyphase, polyphase

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DeferredDecoder:
    """Decoder of an encoding of LAZY, with a filter if the rates differ.

    With a filter, samples are stored with their context, which the filter needs. Compared by identity; `coding` caches
    instances.
    """

    encoding: Encoding
    filter: Polyphase | None
    context_bytes: int
    """Bytes of context around samples."""
    context_before: int
    """Input samples of context before them."""
    context_after: int
    """Input samples of context after them."""

    def size(self, samples: int) -> int:
        """Return the bytes of `samples` samples at the output rate (whole input samples), without context."""
        inputs = samples if self.filter is None else self.filter.inputs(samples)
        return inputs * self.encoding.sample_bytes

    def count(self, size: int) -> int:
        """Return the samples at the output rate of `size` bytes, context included."""
        inputs = (size - self.context_bytes) // self.encoding.sample_bytes
        return inputs if self.filter is None else inputs // self.filter.down * self.filter.up

    def output_count(self, inputs: int) -> int:
        """Return the samples at the output rate of `inputs` input samples in total, followed by silence."""
        return inputs if self.filter is None else self.filter.output_count(inputs)

    @property
    def multiple(self) -> int:
        """Unit of `windows` in samples."""
        return 1 if self.filter is None else self.filter.block_out

    def silence(self, inputs: int) -> bytes:
        return _SILENCE.get(self.encoding, bytes(self.encoding.sample_bytes)) * inputs

    def decode(self, data: bytes | bytearray) -> FloatArray:
        """Decode to float32 [n] in its own memory."""
        samples = decode(self.encoding, data)
        if self.filter is None:
            return samples
        return self.filter.convert_range(samples, -self.context_before, 0, self.count(len(data)))

    def windows(self, pieces: Sequence[bytes | bytearray], window: int) -> FloatArray:
        """Decode pieces of whole windows, each with its context, to float32 [n, window]."""
        if self.filter is None:
            return decode(self.encoding, b"".join(pieces)).reshape(-1, window)
        step = self.size(window)
        row = step + self.context_bytes
        rows: list[bytes | bytearray] = []
        for piece in pieces:
            if len(piece) == row:
                rows.append(piece)
            else:
                rows += [piece[at : at + row] for at in range(0, len(piece) - self.context_bytes, step)]
        result, chunk = np.empty((len(rows), window), np.float32), self.filter.chunk
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            samples = decode(self.encoding, b"".join(some)).reshape(len(some), -1)
            self.filter.convert(samples, result[first : first + chunk])
        return result


class Pcm(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Encoded audio of one channel: whole samples and their context, decoded when needed."""

    decoder: DeferredDecoder
    data: bytes | bytearray

    def __len__(self) -> int:
        return self.decoder.count(len(self.data))

    def decode(self) -> FloatArray:
        """Decode to float32 [n] in its own memory."""
        return self.decoder.decode(self.data)


def deferred_decoder(encoding: Encoding, rate_in: int, rate_out: int) -> DeferredDecoder | None:
    """Return the decoder of stored audio for `rate_out` (Hz); None if it must be decoded at once.

    That is the case for encodings outside of LAZY, and for rates without a whole ratio.
    """
    if encoding not in DEFERRABLE:
        return None
    if rate_in == rate_out:
        return _deferred_decoder(encoding, None)
    between = polyphase(rate_in, rate_out)
    return _deferred_decoder(encoding, between) if between else None


AudioSamples = FloatArray | Pcm
"""Audio of one channel, decoded or encoded."""

StoredAudio = FloatArray | bytes | bytearray
"""Audio of one channel for a buffer: decoded, or in the encoding of the buffer."""


def decode_samples(x: AudioSamples) -> FloatArray:
    """Return float32 [n] for either form."""
    return x.decode() if isinstance(x, Pcm) else x


def split(x: AudioSamples, first: int) -> tuple[AudioSamples, AudioSamples]:
    """Split off the first `first` samples."""
    if isinstance(x, Pcm):
        size, around = x.decoder.size(first), x.decoder.context_bytes
        return Pcm(x.decoder, x.data[: size + around]), Pcm(x.decoder, x.data[size:])
    return x[:first], x[first:]


def windows_of(pieces: Sequence[AudioSamples], window: int) -> FloatArray:
    """Decode pieces of whole windows with the same encoding to float32 [n, window], in one call."""
    if isinstance(pieces[0], Pcm):
        data = [piece.data for piece in pieces if isinstance(piece, Pcm)]
        return pieces[0].decoder.windows(data, window)
    return np.concatenate(pieces).reshape(-1, window)  # type: ignore[arg-type]


@cache
def _deferred_decoder(encoding: Encoding, filter: Polyphase | None) -> DeferredDecoder:
    if filter is None:
        return DeferredDecoder(encoding, None, 0, 0, 0)
    around = (filter.context_before + filter.context_after) * encoding.sample_bytes
    return DeferredDecoder(encoding, filter, around, filter.context_before, filter.context_after)


_SILENCE = {Encoding.PCM_U8: b"\x80", Encoding.MULAW: b"\xff", Encoding.ALAW: b"\xd5"}
"""A silent sample, if it is not zeros. A-law has no zero: this is its smallest value."""
