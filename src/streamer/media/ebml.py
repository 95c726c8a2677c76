"""EBML (RFC 8794), the structure of WebM and Matroska: elements as their bytes come."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from streamer.media.packets import DamagedMedia

MAX_DEPTH = 8
HEADER_ID = 0x1A45DFA3


class ElementStart(NamedTuple):
    """An element with children begins."""

    id: int


class ElementEnd(NamedTuple):
    """The element with children that was opened last ends."""

    id: int


class Element(NamedTuple):
    """A whole element without children."""

    id: int
    data: bytes


class EbmlReader:
    """Descends into `masters`, gives `leaves` whole, and counts off everything else without keeping it."""

    def __init__(
        self,
        masters: Collection[int],
        unbounded: dict[int, frozenset[int]],
        leaves: dict[int, int],
    ) -> None:
        """Create a parser at the start of a document.

        `unbounded`: masters that may have no size, each with the ids that end it. `leaves`: maximum bytes of each.
        """
        self._masters = frozenset(masters)
        self._unbounded = unbounded
        self._leaves = leaves
        self._data = bytearray()
        self._position = 0
        self._skip = 0
        self._open: list[tuple[int, int | None]] = []

    @property
    def nbytes(self) -> int:
        """Bytes that wait for their rest."""
        return len(self._data)

    @property
    def depth(self) -> int:
        return len(self._open)

    def push(self, data: bytes) -> Iterator[ElementStart | ElementEnd | Element]:
        """Yield each event that these bytes complete, before the bytes after it are read. Raises DamagedMedia."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._position += skipped
            data = data[skipped:]
            if self._skip:
                return
        self._data += data
        at, out = 0, list[ElementStart | ElementEnd | Element]()
        while True:
            try:
                step = self._element(at, out)
            except DamagedMedia:
                yield from out
                raise
            yield from out
            out.clear()
            if step is None:
                break
            at += step
        del self._data[:at]

    def finish(self) -> list[ElementStart | ElementEnd | Element]:
        """Close what is open."""
        out: list[ElementStart | ElementEnd | Element] = []
        while self._open:
            out.append(ElementEnd(self._open.pop()[0]))
        return out

    def _element(self, at: int, out: list[ElementStart | ElementEnd | Element]) -> int | None:  # noqa: PLR0911 (each may be cut)
        """Read what begins at `at`; returns its bytes, or None if more have to come."""
        self._close_ended(out)
        data = self._data
        if len(data) - at < 2:
            return None
        id_bytes = 9 - data[at].bit_length()
        if id_bytes > 4:
            raise DamagedMedia(f"WebM: no EBML element at byte {self._position}")
        if len(data) - at <= id_bytes:
            return None
        size_bytes = 9 - data[at + id_bytes].bit_length()
        if size_bytes > 8:
            raise DamagedMedia(f"WebM: an EBML size of more than 8 bytes at byte {self._position}")
        head = id_bytes + size_bytes
        if len(data) - at < head:
            return None
        id_ = int.from_bytes(data[at : at + id_bytes], "big")
        all_ones = (1 << 7 * size_bytes) - 1
        size: int | None = int.from_bytes(data[at + id_bytes : at + head], "big") & all_ones
        if size == all_ones:
            size = None
        self._end_unbounded(id_, out)
        self._check_parent(id_, head, size)
        if id_ in self._masters:
            return self._enter(id_, head, size, out)
        if size is None:
            raise DamagedMedia(f"WebM: EBML element {id_:X} of unknown size")
        if (max_size := self._leaves.get(id_)) is None:
            return self._pass_over(head, size, len(data) - at)
        if size > max_size:
            raise DamagedMedia(f"WebM: expected EBML element {id_:X} of at most {max_size} bytes, got {size}")
        if len(data) - at < head + size:
            return None
        out.append(Element(id_, bytes(data[at + head : at + head + size])))
        self._position += head + size
        return head + size

    def _close_ended(self, out: list[ElementStart | ElementEnd | Element]) -> None:
        while self._open and (end := self._open[-1][1]) is not None and self._position >= end:
            out.append(ElementEnd(self._open.pop()[0]))

    def _end_unbounded(self, id_: int, out: list[ElementStart | ElementEnd | Element]) -> None:
        """Close masters without a size that end here, before one of their own or of a higher level."""
        for depth, (opened, end) in enumerate(self._open):
            if end is None and id_ in self._unbounded[opened]:
                while len(self._open) > depth:
                    out.append(ElementEnd(self._open.pop()[0]))
                return

    def _check_parent(self, id_: int, head: int, size: int | None) -> None:
        end = next((end for _, end in reversed(self._open) if end is not None), None)
        if end is not None and self._position + head + (size or 0) > end:
            raise DamagedMedia(f"WebM: EBML element {id_:X} at byte {self._position} leaves its parent")

    def _enter(self, id_: int, head: int, size: int | None, out: list[ElementStart | ElementEnd | Element]) -> int:
        if size is None and id_ not in self._unbounded:
            raise DamagedMedia(f"WebM: EBML element {id_:X} of unknown size")
        if len(self._open) >= MAX_DEPTH:
            raise DamagedMedia(f"WebM: EBML elements nested more than {MAX_DEPTH} deep")
        self._position += head
        self._open.append((id_, None if size is None else self._position + size))
        out.append(ElementStart(id_))
        return head

    def _pass_over(self, head: int, size: int, here: int) -> int:
        now = min(head + size, here)
        self._skip = head + size - now
        self._position += now
        return now
