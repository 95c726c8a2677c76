"""MP4 (ISO 14496-12): in fragments as browsers record it, and files, whose index stands in front or at the end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, ClassVar

from streamer.media.flac_header import flac_samples
from streamer.media.mp4_index import MAX_FRAGMENT_SAMPLES, Index, Sample, read_fragment, read_index
from streamer.media.opus_header import packet_samples
from streamer.media.packets import AudioCodec, DamagedMedia, Packet, Track, UnsupportedMedia

MAX_INDEX_BYTES = 8 * 1024 * 1024
"""Of `moov`: that of an hour of AAC has 0.7 MB."""
MAX_FRAGMENT_BYTES = 1024 * 1024
"""Of `moof`."""
_FOREVER = 1 << 62


class Mp4Demuxer:
    """A Demuxer of MP4. The samples of audio must lie in the order of their times, as all writers put them.

    A file whose index comes after its audio cannot be decoded as it comes: with a `spool` its audio is written there,
    and read again when the bytes have ended; without one it is refused.
    """

    name: ClassVar[str] = "MP4"

    def __init__(self, spool: BinaryIO | None = None, max_index_bytes: int = MAX_INDEX_BYTES) -> None:
        self._spool = spool
        self._max_index_bytes = max_index_bytes
        self._spooled: list[tuple[int, int]] = []
        """Where each part of the spool begins, in the file and there."""
        self._data = bytearray()
        self._position = 0
        self._skip = self._audio_end = self._spool_left = 0
        self._index: Index | None = None
        self._samples: Iterator[Sample] = iter(())
        self._next: Sample | None = None

    @property
    def nbytes(self) -> int:
        tables = self._index.tables if self._index else None
        return len(self._data) + len(tables or b"")

    def push(self, data: bytes) -> list[Track | Packet]:
        out: list[Track | Packet] = []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            self._position += skipped
            data = data[skipped:]
            if self._skip:
                return out
        self._data += data
        at = 0
        while (step := self._step(at, out)) is not None:
            at += step
            if self._skip:
                break
        del self._data[:at]
        return out

    def finish(self) -> Iterator[Track | Packet]:
        if self._index is None:
            raise DamagedMedia("MP4: it ends before its index (moov)")
        if self._spooled:
            yield self._index.track
            yield from self._from_spool(self._index)

    def _step(self, at: int, out: list[Track | Packet]) -> int | None:
        """Take what lies at `at`; returns its bytes, or None if more have to come."""
        if self._spool_left:
            return self._to_spool(at)
        if self._position < self._audio_end:
            return self._audio(at, out)
        return self._box(at, out)

    def _box(self, at: int, out: list[Track | Packet]) -> int | None:
        data = self._data
        if len(data) - at < 8:
            return None
        size, head, kind = int.from_bytes(data[at : at + 4], "big"), 8, bytes(data[at + 4 : at + 8])
        if size == 1:
            if len(data) - at < 16:
                return None
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = _FOREVER
        if size < head or not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            raise DamagedMedia(f"MP4: no box at byte {self._position}")
        if kind in (b"moov", b"moof"):
            return self._read_box(at, kind, head, size, out)
        if kind == b"mdat":
            self._enter_audio(head, size)
            return head
        here = min(size, len(data) - at)
        self._skip = size - here
        self._position += here
        return here

    def _read_box(self, at: int, kind: bytes, head: int, size: int, out: list[Track | Packet]) -> int | None:
        max_size = self._max_index_bytes if kind == b"moov" else MAX_FRAGMENT_BYTES
        if size > max_size:
            raise DamagedMedia(f"MP4: expected {kind.decode()} of at most {max_size} bytes, got {size}")
        if len(self._data) - at < size:
            return None
        content = bytes(self._data[at + head : at + size])
        try:
            if kind == b"moov":
                self._begin(read_index(content), out)
            elif self._index is not None and self._index.tables is None:
                waiting = [sample for sample in (self._next, *self._samples) if sample is not None]
                if len(waiting) > MAX_FRAGMENT_SAMPLES:
                    raise DamagedMedia(f"MP4: more than {MAX_FRAGMENT_SAMPLES} samples without their audio")
                self._samples = iter(waiting + read_fragment(content, self._position, self._index))
                self._next = next(self._samples, None)
        except (struct.error, IndexError):
            raise DamagedMedia(f"MP4: {kind.decode()} at byte {self._position} is cut short") from None
        self._position += size
        return size

    def _begin(self, index: Index, out: list[Track | Packet]) -> None:
        self._index = index
        if self._spooled:
            return
        self._samples = index.samples()
        self._next = next(self._samples, None)
        out.append(index.track)

    def _enter_audio(self, head: int, size: int) -> None:
        self._position += head
        if self._index is not None and not self._spooled:
            self._audio_end = self._position + size - head
            return
        if self._spool is None:
            raise UnsupportedMedia(
                "MP4: expected its index (moov) in front of its audio, got it behind; write the file with "
                "`-movflags +faststart` or in fragments, or POST it"
            )
        self._spooled.append((self._position, self._spool.tell()))
        self._spool_left = size - head

    def _to_spool(self, at: int) -> int | None:
        assert self._spool is not None
        size = min(self._spool_left, len(self._data) - at)
        if not size:
            return None
        self._spool.write(self._data[at : at + size])
        self._spool_left -= size
        self._position += size
        return size

    def _audio(self, at: int, out: list[Track | Packet]) -> int | None:
        """Take the next sample, or what lies before it."""
        sample, here = self._next, len(self._data) - at
        index = self._index
        assert index is not None
        if sample is None or sample.offset >= self._audio_end:
            rest = min(self._audio_end - self._position, here)
            self._position += rest
            self._skip = self._audio_end - self._position
            return rest if rest or not self._skip else None
        if sample.offset < self._position:
            raise DamagedMedia(f"MP4: a sample at byte {sample.offset} lies before the one that precedes it")
        if sample.offset + sample.size > self._audio_end:
            raise DamagedMedia(f"MP4: a sample at byte {sample.offset} leaves its mdat")
        gap = min(sample.offset - self._position, here)
        if gap:
            self._position += gap
            return gap
        if here < sample.size or not here:
            return None
        out.append(_packet(index.track, bytes(self._data[at : at + sample.size])))
        self._position += sample.size
        self._next = next(self._samples, None)
        return sample.size

    def _from_spool(self, index: Index) -> Iterator[Packet]:
        spool = self._spool
        assert spool is not None
        parts = iter((*self._spooled, (_FOREVER, 0)))
        (begin, there), (end, following) = next(parts), next(parts)
        try:
            for sample in index.samples():
                while sample.offset >= end:
                    begin, there = end, following
                    end, following = next(parts)
                spool.seek(there + sample.offset - begin if sample.offset >= begin else 0)
                data = spool.read(sample.size) if sample.offset >= begin else b""
                if len(data) < sample.size:
                    raise DamagedMedia(f"MP4: a sample at byte {sample.offset} is not in the file")
                if data:
                    yield _packet(index.track, data)
        except (struct.error, IndexError):
            raise DamagedMedia("MP4: a table of samples is cut short") from None


def _packet(track: Track, data: bytes) -> Packet:
    match track.codec:
        case AudioCodec.OPUS:
            return Packet(data, packet_samples(data))
        case AudioCodec.FLAC:
            return Packet(data, flac_samples(data))
        case AudioCodec.MP3:
            return Packet(data, 1_152 if track.sample_rate >= 32_000 else 576)
        case _:
            return Packet(data, 1_024)
