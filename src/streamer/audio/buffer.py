"""The audio of one channel that may still be needed, addressed by its position in the stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MIN_CAPACITY = 1_024


class BufferFull(RuntimeError):
    """More was to be retained than the buffer's bound: its owner forgot to forget. A bug of ours, never of a client."""


class SampleBuffer:
    """Retains the samples [start, end) of a stream. Positions are absolute: samples since the stream began.

    Append and forget cost O(1) a sample, amortised; memory follows what is retained, down as well as up.
    """

    __slots__ = ("_head", "_max_samples", "_start", "_storage", "_tail")

    def __init__(self, max_samples: int, start: int = 0) -> None:
        self._max_samples = max_samples
        self._storage = np.empty(0, np.float32)
        # What is retained is _storage[_head:_tail].
        self._head = self._tail = 0
        self._start = start

    def __len__(self) -> int:
        return self._tail - self._head

    @property
    def start(self) -> int:
        """The position of the oldest sample that is retained."""
        return self._start

    @property
    def end(self) -> int:
        """The position after the newest sample."""
        return self._start + len(self)

    @property
    def capacity(self) -> int:
        """Samples there is memory for now."""
        return self._storage.size

    @property
    def nbytes(self) -> int:
        """Bytes of memory held now."""
        return self._storage.nbytes

    def append(self, x: NDArray[np.float32]) -> None:
        """Retain x [n] after what is there. BufferFull, and nothing is kept, if that exceeds `max_samples`."""
        needed = len(self) + x.size
        if needed > self._max_samples:
            raise BufferFull(f"{needed} samples to retain, at most {self._max_samples} may be")
        if self._tail + x.size > self._storage.size:
            self._move(needed)
        self._storage[self._tail : self._tail + x.size] = x
        self._tail += x.size

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        """The samples [first, last) as a copy, which nothing that follows can change. IndexError unless retained."""
        if not self._start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the retained [{self._start}, {self.end})")
        offset = self._head - self._start
        piece = self._storage[first + offset : last + offset].copy()
        piece.flags.writeable = False
        return piece

    def forget(self, before: int) -> None:
        """Drop what lies before a position: nothing if that is forgotten already, all if it is past the end."""
        dropped = min(before, self.end) - self._start
        if dropped <= 0:
            return
        self._start += dropped
        self._head += dropped
        if self._storage.size > _MIN_CAPACITY and 4 * len(self) < self._storage.size:
            self._move(len(self))

    def _move(self, needed: int) -> None:
        """Bring what is retained to the front of new memory: half as much again as needed, so that moves are rare."""
        storage = np.empty(max(needed + needed // 2, _MIN_CAPACITY), np.float32)
        held = len(self)
        storage[:held] = self._storage[self._head : self._tail]
        self._storage, self._head, self._tail = storage, 0, held
