"""AAC with ADTS headers (ISO 14496-3): a frame at a time."""

from __future__ import annotations

from typing import ClassVar

from streamer.media.id3 import tag_bytes
from streamer.media.packets import MAX_GARBAGE_BYTES, AudioCodec, DamagedMedia, Packet, Track

_HEADER_BYTES = 7
_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
_FRAME_SAMPLES = 1_024


class AdtsDemuxer:
    """A Demuxer of ADTS. A new format is believed only if another frame follows its first."""

    name: ClassVar[str] = "AAC"

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = self._passed = 0
        self._format: tuple[int, int, int] | None = None

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def push(self, data: bytes) -> list[Track | Packet]:
        return self._push(data, is_last=False)

    def finish(self) -> list[Track | Packet]:
        out = self._push(b"", is_last=True)
        if self._format is None:
            raise DamagedMedia("AAC: it ends before any frame")
        return out

    def _push(self, data: bytes, *, is_last: bool) -> list[Track | Packet]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer, at, out = self._data, 0, list[Track | Packet]()
        buffer += data
        while len(buffer) - at >= (10 if not is_last else _HEADER_BYTES):
            if self._format is None and not self._passed and (tag := tag_bytes(buffer, at)):
                here = min(tag, len(buffer) - at)
                self._skip = tag - here
                at += here
                continue
            size = _frame_bytes(buffer, at)
            if size is None:
                at = self._search(at)
                continue
            if len(buffer) - at < size:
                break
            format_ = (buffer[at + 1] & 0xF9, buffer[at + 2] & 0xFD, buffer[at + 3] & 0xC0)
            if format_ != self._format:
                following = at + size
                if len(buffer) - following < _HEADER_BYTES and not is_last:
                    break
                if len(buffer) - following >= _HEADER_BYTES and _frame_bytes(buffer, following) is None:
                    at = self._search(at)
                    continue
                self._format = format_
                channels = (buffer[at + 2] & 1) << 2 | buffer[at + 3] >> 6
                out.append(Track(AudioCodec.AAC, _RATES[buffer[at + 2] >> 2 & 15], channels))
            out.append(Packet(bytes(buffer[at : at + size]), _FRAME_SAMPLES * ((buffer[at + 6] & 3) + 1)))
            at += size
            self._passed = 0
        del buffer[:at]
        return out

    def _search(self, at: int) -> int:
        found = self._data.find(b"\xff", at + 1)
        if found < 0:
            found = len(self._data)
        self._passed += found - at
        if self._passed > MAX_GARBAGE_BYTES:
            raise DamagedMedia(f"AAC: no frame in {MAX_GARBAGE_BYTES} bytes")
        return found


def is_adts(data: bytes | bytearray, at: int = 0) -> bool:
    """Whether a frame's header stands there."""
    return len(data) - at >= _HEADER_BYTES and _frame_bytes(data, at) is not None


def _frame_bytes(data: bytes | bytearray, at: int) -> int | None:
    if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0 or data[at + 2] >> 2 & 15 >= len(_RATES):
        return None
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    return size if size > _HEADER_BYTES else None
