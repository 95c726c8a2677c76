"""The bytes of a stream that are still needed, by their place in it: nothing that is kept is copied or moved."""

from __future__ import annotations

from collections import deque

_LEAST = 512
"""Chunks smaller than this become one, so that many small ones cost no more than their bytes."""
_LARGE = 4_096
"""Chunks larger than this are cut if less than a quarter of them is needed."""


class Chunks:
    """Bytes [start, end) of a stream, in the pieces they came in. What is appended must not be changed any more.

    A piece is let go as a whole, and cut only if little of it is needed: at most four times the bytes are held.
    """

    __slots__ = ("_first", "_pieces", "end", "start")

    def __init__(self, start: int = 0) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._first = start  # the place of the first piece
        self.start = self.end = start

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.end - self._first

    def append(self, data: bytes | bytearray) -> None:
        pieces = self._pieces
        if pieces and len(pieces[-1]) < _LEAST:
            pieces[-1] = pieces[-1] + data
        elif data:
            pieces.append(data)
        self.end += len(data)

    def slice(self, first: int, last: int) -> bytes:
        """The bytes [first, last), `start` at the least and `end` at most."""
        wanted, at = [], self._first
        for piece in self._pieces:
            if at >= last:
                break
            if (after := at + len(piece)) > first:
                wanted.append(piece if first <= at and after <= last else piece[max(0, first - at) : last - at])
            at = after
        return b"".join(wanted)

    def forget(self, before: int) -> None:
        """Drop what lies before a place, `end` at most; nothing if that is forgotten already."""
        if before <= self.start:
            return
        self.start = before
        pieces, first = self._pieces, self._first
        while pieces and first + len(pieces[0]) <= before:
            first += len(pieces.popleft())
        if pieces and (size := len(pieces[0])) > _LARGE and 4 * (first + size - before) < size:
            pieces[0] = pieces[0][before - first :]
            first = before
        self._first = first
