"""AMR and AMR-WB in their storage format (RFC 4867, section 5)."""

from __future__ import annotations

from typing import ClassVar

from streamer.media.packets import AudioCodec, DamagedMedia, Packet, Track, UnsupportedMedia

_NARROW = b"#!AMR\n"
_WIDE = b"#!AMR-WB\n"
_NARROW_BYTES = (12, 13, 15, 17, 19, 20, 26, 31, 5, -1, -1, -1, -1, -1, -1, 0)
_WIDE_BYTES = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, -1, -1, -1, -1, 0, 0)
"""Bytes of a frame after its first, by its type."""


class AmrDemuxer:
    """A Demuxer of AMR: 20 ms a frame."""

    name: ClassVar[str] = "AMR"

    def __init__(self) -> None:
        self._data = bytearray()
        self._track: Track | None = None
        self._sizes = _NARROW_BYTES

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def push(self, data: bytes) -> list[Track | Packet]:
        buffer, at, out = self._data, 0, list[Track | Packet]()
        buffer += data
        if self._track is None:
            if len(buffer) < len(_WIDE):
                return out
            is_wide = buffer.startswith(_WIDE)
            if not is_wide and not buffer.startswith(_NARROW):
                raise UnsupportedMedia("AMR: expected one channel in the storage format (#!AMR or #!AMR-WB)")
            if is_wide:
                self._sizes = _WIDE_BYTES
            at = len(_WIDE if is_wide else _NARROW)
            self._track = Track(AudioCodec.AMR_WB, 16_000, 1) if is_wide else Track(AudioCodec.AMR_NB, 8_000, 1)
            out.append(self._track)
        samples = self._track.sample_rate // 50
        while at < len(buffer):
            size = self._sizes[buffer[at] >> 3 & 15]
            if size < 0 or buffer[at] & 0x83:
                raise DamagedMedia(f"AMR: no frame where one is due (first byte {buffer[at]:#04x})")
            if len(buffer) - at <= size:
                break
            out.append(Packet(bytes(buffer[at : at + size + 1]), samples))
            at += size + 1
        del buffer[:at]
        return out

    def finish(self) -> list[Track | Packet]:
        if self._track is None:
            raise DamagedMedia("AMR: it ends before any frame")
        return []
