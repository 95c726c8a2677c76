"""A byte rope: stored bytes of a stream, by position, without copies or moves."""

from __future__ import annotations

from collections import deque

_MIN_PIECE_BYTES = 512
"""Size up to which chunks are joined: otherwise small chunks would cost more than their bytes."""
_LARGE = 4_096
"""Size above which chunks are cut if less than a quarter of them is needed."""


class ByteRope:
    """Bytes [start, end) of a stream, in pieces. Appended bytes must not be changed any more.

    A piece is freed as a whole, and cut only if little of it is needed: at most four times the bytes are stored.
    """

    __slots__ = ("_first", "_pieces", "end", "start")

    def __init__(self, start: int = 0) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._first = start  # position of the first piece
        self.start = self.end = start

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.end - self._first

    def append(self, data: bytes | bytearray) -> None:
        pieces = self._pieces
        if pieces and len(pieces[-1]) < _MIN_PIECE_BYTES:
            pieces[-1] = pieces[-1] + data
        elif data:
            pieces.append(data)
        self.end += len(data)

    def slice(self, first: int, last: int) -> bytes:
        """Return the bytes [first, last), within [start, end)."""
        parts, at = [], self._first
        for piece in self._pieces:
            if at >= last:
                break
            if (after := at + len(piece)) > first:
                parts.append(piece if first <= at and after <= last else piece[max(0, first - at) : last - at])
            at = after
        return b"".join(parts)

    def forget(self, before: int) -> None:
        """Free the bytes before a position, at most `end`; no effect if they are freed already."""
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
