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

    def append(self, x: NDArray[np.float32]) -> None:
        """Retain x [n] after what is there. BufferFull, and nothing is kept, if that exceeds `max_samples`."""
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
        """The samples [first, last) as a copy, which nothing that follows can change. IndexError unless retained."""
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the retained [{self.start}, {self.end})")
        offset = self._head - self.start
        piece = self._storage[first + offset : last + offset].copy()
        piece.flags.writeable = False
        return piece

    def forget(self, before: int) -> None:
        """Drop what lies before a position: nothing if that is forgotten already, all if it is past the end."""
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
