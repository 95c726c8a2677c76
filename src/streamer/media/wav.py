"""WAV: RIFF, RF64, and what programs write into a pipe, whose sizes say nothing."""

from __future__ import annotations

import struct
from typing import ClassVar

from streamer.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Encoding
from streamer.media.packets import AudioCodec, DamagedMedia, Packet, Track, UnsupportedMedia

_ENCODINGS = {
    (1, 8): Encoding.PCM_U8,
    (1, 16): Encoding.PCM_S16LE,
    (1, 24): Encoding.PCM_S24LE,
    (1, 32): Encoding.PCM_S32LE,
    (3, 32): Encoding.PCM_F32LE,
    (3, 64): Encoding.PCM_F64LE,
    (6, 8): Encoding.ALAW,
    (7, 8): Encoding.MULAW,
}
"""By format tag and bits."""
_EXTENSIBLE = 0xFFFE
_UNKNOWN = 0x7FFFF000
"""Sizes from here on, and 0, are those of a program that could not know."""
_MAX_FORMAT_BYTES = 4_096
_MAX_CHUNKS = 1_000


class WavDemuxer:
    """A Demuxer of WAV: one track, whose packets are its bytes as they come."""

    name: ClassVar[str] = "WAV"

    def __init__(self) -> None:
        self._data = bytearray()
        self._track: Track | None = None
        self._skip = self._chunks = 0
        self._wide_size: int | None = None
        self._left: int | None = None
        """Bytes of samples that still come; -1: until the end; None: before them."""
        self._has_begun = False

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def push(self, data: bytes) -> list[Track | Packet]:
        out: list[Track | Packet] = []
        if self._left is None:
            data = self._header(data, out)
        if self._left is None or not self._left or not data:
            return out
        if self._left > 0:
            data = data[: self._left]
            self._left -= len(data)
        out.append(Packet(data, 0))
        return out

    def finish(self) -> list[Track | Packet]:
        if self._left is None:
            raise DamagedMedia("WAV: it ends before any samples")
        return []

    def _header(self, data: bytes, out: list[Track | Packet]) -> bytes:
        """Read the chunks before the samples; returns the first of those."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer, at = self._data, 0
        buffer += data
        if not self._has_begun:
            if len(buffer) < 12:
                return b""
            if not buffer.startswith((b"RIFF", b"RF64")) or buffer[8:12] != b"WAVE":
                raise UnsupportedMedia(f"RIFF: expected WAVE, got {bytes(buffer[8:12])!r}")
            at, self._has_begun = 12, True
        while not self._skip and len(buffer) - at >= 8:
            kind, size = bytes(buffer[at : at + 4]), int.from_bytes(buffer[at + 4 : at + 8], "little")
            self._chunks += 1
            if self._chunks > _MAX_CHUNKS:
                raise DamagedMedia(f"WAV: more than {_MAX_CHUNKS} chunks before the samples")
            if kind == b"data":
                self._begin(size, out)
                rest = bytes(buffer[at + 8 :])
                self._data = bytearray()
                return rest
            if kind in (b"fmt ", b"ds64"):
                if size > _MAX_FORMAT_BYTES:
                    raise DamagedMedia(f"WAV: expected a format of at most {_MAX_FORMAT_BYTES} bytes, got {size}")
                if len(buffer) - at < 8 + size:
                    break
                self._read_chunk(kind, bytes(buffer[at + 8 : at + 8 + size]))
            padded = 8 + size + (size & 1)
            here = min(padded, len(buffer) - at)
            self._skip = padded - here
            at += here
        del buffer[:at]
        return b""

    def _read_chunk(self, kind: bytes, data: bytes) -> None:
        if kind == b"ds64" and len(data) >= 16:
            self._wide_size = int.from_bytes(data[8:16], "little")
        elif kind == b"fmt ":
            self._track = _track(data)

    def _begin(self, size: int, out: list[Track | Packet]) -> None:
        if self._track is None:
            raise DamagedMedia("WAV: samples before their format")
        if size == 0xFFFFFFFF and self._wide_size:
            self._left = self._wide_size
        else:
            self._left = -1 if size == 0 or size >= _UNKNOWN else size
        out.append(self._track)


def _track(data: bytes) -> Track:
    if len(data) < 16:
        raise DamagedMedia(f"WAV: expected a format of at least 16 bytes, got {len(data)}")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data)
    if tag == _EXTENSIBLE and len(data) >= 26:
        tag = int.from_bytes(data[24:26], "little")
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        raise UnsupportedMedia(f"WAV: expected PCM, float or G.711, got format tag {tag} with {bits} bits")
    if not 1 <= channels <= MAX_CHANNELS or not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise UnsupportedMedia(
            f"WAV: expected 1 to {MAX_CHANNELS} channels at {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, "
            f"got {channels} at {rate} Hz"
        )
    return Track(AudioCodec.PCM, rate, channels, encoding=encoding)
