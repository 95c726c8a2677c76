"""The audio of one channel that may still be needed, addressed by its position in the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import Encoding
from streamer.audio.pcm import Pcm, decode

Samples = NDArray[np.float32] | Pcm
"""Audio of one channel, decoded or not yet."""

_MIN_CAPACITY = 1_024


def decoded(x: Samples) -> NDArray[np.float32]:
    """float32 [n] in any case."""
    return x.decode() if isinstance(x, Pcm) else x


def split(x: Samples, first: int) -> tuple[Samples, Samples]:
    """The first so many samples, and the others."""
    if isinstance(x, Pcm):
        at = first * x.encoding.sample_bytes
        return Pcm(x.encoding, x.data[:at]), Pcm(x.encoding, x.data[at:])
    return x[:first], x[first:]


def joined(pieces: Sequence[Samples]) -> NDArray[np.float32]:
    """Pieces of one encoding as float32 [n], decoded in one go."""
    if isinstance(pieces[0], Pcm):
        return decode(pieces[0].encoding, b"".join([piece.data for piece in pieces]))
    return np.concatenate(pieces)  # type: ignore[arg-type]


class BufferFull(RuntimeError):
    """More was to be retained than the buffer's bound: its owner forgot to forget. A bug of ours, never of a client."""


class Buffer(Protocol):
    """Retains the samples [start, end) of a stream. Positions are absolute: samples since the stream began."""

    @property
    def start(self) -> int:
        """The position of the oldest sample that is retained."""
        ...

    @property
    def end(self) -> int:
        """The position after the newest sample."""
        ...

    def append(self, x: Samples) -> None:
        """Retain x after what is there. BufferFull, and nothing is kept, if that exceeds the bound."""
        ...

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        """The samples [first, last), which nothing that follows can change. IndexError unless retained."""
        ...

    def forget(self, before: int) -> None:
        """Drop what lies before a position: nothing if that is forgotten already, all if it is past the end."""
        ...


def buffer_for(encoding: Encoding | None, max_samples: int) -> Buffer:
    """Retains audio as it came where an encoding is given, else decoded."""
    return SampleBuffer(max_samples) if encoding is None else EncodedBuffer(encoding, max_samples)


class EncodedBuffer:
    """A Buffer of Pcm: an append is one of bytes, and only what is asked for is decoded."""

    __slots__ = ("_encoding", "_max_samples", "_raw", "_sample_bytes", "end", "start")

    def __init__(self, encoding: Encoding, max_samples: int) -> None:
        self._encoding = encoding
        self._sample_bytes = encoding.sample_bytes
        self._max_samples = max_samples
        self._raw = bytearray()
        self.start = self.end = 0

    @property
    def nbytes(self) -> int:
        """Bytes of audio held now."""
        return len(self._raw)

    def append(self, x: Samples) -> None:
        assert isinstance(x, Pcm)
        end = self.end + len(x.data) // self._sample_bytes
        if end - self.start > self._max_samples:
            raise BufferFull(f"{end - self.start} samples to retain, at most {self._max_samples} may be")
        self._raw += x.data
        self.end = end

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the retained [{self.start}, {self.end})")
        size, start = self._sample_bytes, self.start
        piece = decode(self._encoding, self._raw[(first - start) * size : (last - start) * size])
        piece.flags.writeable = False
        return piece

    def forget(self, before: int) -> None:
        dropped = min(before, self.end) - self.start
        if dropped > 0:
            self.start += dropped
            del self._raw[: dropped * self._sample_bytes]  # moves the bytearray's beginning, not its bytes


class SampleBuffer:
    """A Buffer of decoded samples. Append and forget cost O(1) a sample, amortised; memory follows what is retained,
    down as well as up."""

    __slots__ = ("_head", "_max_samples", "_storage", "end", "start")

    def __init__(self, max_samples: int, start: int = 0) -> None:
        self._max_samples = max_samples
        self._storage = np.empty(0, np.float32)
        self._head = 0  # what is retained is _storage[_head:_head + end - start]
        self.start = start
        """The position of the oldest sample that is retained."""
        self.end = start
        """The position after the newest sample."""

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def capacity(self) -> int:
        """Samples there is memory for now."""
        return self._storage.size

    @property
    def nbytes(self) -> int:
        """Bytes of memory held now."""
        return self._storage.nbytes

    def append(self, x: Samples) -> None:
        assert isinstance(x, np.ndarray)
        count = x.size
        held = self.end - self.start
        if held + count > self._max_samples:
            raise BufferFull(f"{held + count} samples to retain, at most {self._max_samples} may be")
        if self._head + held + count > self._storage.size:
            self._move(held + count)
        tail = self._head + held
        self._storage[tail : tail + count] = x
        self.end += count

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the retained [{self.start}, {self.end})")
        offset = self._head - self.start
        piece = self._storage[first + offset : last + offset].copy()
        piece.flags.writeable = False
        return piece

    def forget(self, before: int) -> None:
        dropped = min(before, self.end) - self.start
        if dropped <= 0:
            return
        self.start += dropped
        self._head += dropped
        held = self.end - self.start
        if 4 * held < self._storage.size > _MIN_CAPACITY:
            self._move(held)

    def _move(self, needed: int) -> None:
        """Bring what is retained to the front of new memory: half as much again as needed, so that moves are rare."""
        storage = np.empty(max(needed + needed // 2, _MIN_CAPACITY), np.float32)
        held = self.end - self.start
        storage[:held] = self._storage[self._head : self._head + held]
        self._storage, self._head = storage, 0
