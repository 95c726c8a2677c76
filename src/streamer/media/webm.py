"""WebM and Matroska (RFC 9559): blocks of the first audio track to packets."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import ClassVar

import msgspec

from streamer.audio.format import Encoding
from streamer.media.ebml import HEADER_ID, EbmlReader, Element, ElementEnd, ElementStart
from streamer.media.flac_header import flac_samples, flac_track
from streamer.media.opus_header import CLOCK_RATE, opus_track, packet_samples, plain_header
from streamer.media.packets import (
    MAX_HEADER_BYTES,
    MAX_PACKET_BYTES,
    MAX_TRACKS,
    AudioCodec,
    DamagedMedia,
    Packet,
    Track,
    UnsupportedMedia,
)

_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _AUDIO, _GROUP = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE1, 0xA0
_DOCUMENT_TYPE, _SIMPLE_BLOCK, _BLOCK, _DISCARD = 0x4282, 0xA3, 0xA1, 0x75A2
_NUMBER, _TYPE, _CODEC, _PRIVATE, _RATE, _CHANNELS, _BITS, _DELAY = (
    0xD7, 0x83, 0x86, 0x63A2, 0xB5, 0x9F, 0x6264, 0x56AA,
)  # fmt: skip
_TOP_LEVEL = frozenset({0x114D9B74, 0x1549A966, _TRACKS, _CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367})
_UNBOUNDED = {
    _SEGMENT: frozenset({_SEGMENT, HEADER_ID}),
    _CLUSTER: _TOP_LEVEL | {_SEGMENT, HEADER_ID},
}
_LEAVES = dict.fromkeys(
    (HEADER_ID, _NUMBER, _TYPE, _CODEC, _PRIVATE, _RATE, _CHANNELS, _BITS, _DELAY, _DISCARD), MAX_HEADER_BYTES
) | dict.fromkeys((_SIMPLE_BLOCK, _BLOCK), MAX_PACKET_BYTES)
_AUDIO_TYPE = 2
_PCM = {
    ("A_PCM/INT/LIT", 8): Encoding.PCM_U8,
    ("A_PCM/INT/LIT", 16): Encoding.PCM_S16LE,
    ("A_PCM/INT/LIT", 24): Encoding.PCM_S24LE,
    ("A_PCM/INT/LIT", 32): Encoding.PCM_S32LE,
    ("A_PCM/INT/BIG", 16): Encoding.PCM_S16BE,
    ("A_PCM/FLOAT/IEEE", 32): Encoding.PCM_F32LE,
    ("A_PCM/FLOAT/IEEE", 64): Encoding.PCM_F64LE,
}
_FLAC_INFO_AT = 8
"""After the marker and a block's header."""
_XIPH, _FIXED, _EBML = 1, 2, 3
"""Kinds of lacing, several frames in one block."""


class _PendingJob(msgspec.Struct):
    """The fields of a track, while they are read."""

    number: int = 0
    type: int = 0
    codec: str = ""
    private: bytes = b""
    rate: float = 8_000.0
    channels: int = 1
    bits: int = 0
    delay_ns: int = 0


class WebmDemuxer:
    """A Demuxer of WebM and Matroska, as files and as browsers record them (sizes unknown)."""

    name: ClassVar[str] = "WebM"

    def __init__(self) -> None:
        self._reader = EbmlReader(_UNBOUNDED.keys() | {_TRACKS, _TRACK, _AUDIO, _GROUP}, _UNBOUNDED, _LEAVES)
        self._entry: _PendingJob | None = None
        self._track: Track | None = None
        self._number = 0
        self._tracks = 0
        self._found: list[str] = []
        self._block = b""
        self._discard_ns = 0

    @property
    def nbytes(self) -> int:
        return self._reader.nbytes

    def push(self, data: bytes) -> list[Track | Packet]:
        return self._events(self._reader.push(data))

    def finish(self) -> list[Track | Packet]:
        return self._events(self._reader.finish())

    def _events(self, events: Iterable[ElementStart | ElementEnd | Element]) -> list[Track | Packet]:
        out: list[Track | Packet] = []
        for event in events:
            match event:
                case ElementStart(id_):
                    self._begin(id_)
                case ElementEnd(id_):
                    self._end(id_, out)
                case Element(id_, data):
                    self._leaf(id_, data, out)
        return out

    def _begin(self, id_: int) -> None:
        if id_ == _SEGMENT:
            self._track, self._tracks = None, 0
            self._found.clear()
        elif id_ == _TRACK:
            self._entry = _PendingJob()
            self._tracks += 1
            if self._tracks > MAX_TRACKS:
                raise DamagedMedia(f"WebM: more than {MAX_TRACKS} tracks")
        elif id_ == _GROUP:
            self._block, self._discard_ns = b"", 0

    def _end(self, id_: int, out: list[Track | Packet]) -> None:
        if id_ == _TRACK and self._entry is not None:
            entry, self._entry = self._entry, None
            if entry.type != _AUDIO_TYPE:
                self._found.append(entry.codec[:40])
            elif self._track is None:
                self._track, self._number = _track(entry), entry.number
                out.append(self._track)
        elif id_ == _TRACKS and self._track is None:
            raise UnsupportedMedia(f"WebM: expected an audio track, got {', '.join(self._found[:4]) or 'no track'}")
        elif id_ == _GROUP and self._block:
            self._packets(self._block, self._discard_ns, out)
            self._block = b""

    def _leaf(self, id_: int, data: bytes, out: list[Track | Packet]) -> None:
        if id_ == _SIMPLE_BLOCK:
            self._packets(data, 0, out)
        elif id_ == _BLOCK:
            self._block = data
        elif id_ == _DISCARD:
            self._discard_ns = int.from_bytes(data, "big", signed=True)
        elif id_ == HEADER_ID:
            _check_document(data)
        elif self._entry is not None:
            _read_entry(self._entry, id_, data)

    def _packets(self, block: bytes, discard_ns: int, out: list[Track | Packet]) -> None:
        track = self._track
        number_bytes = 9 - block[0].bit_length() if block else 9
        if number_bytes > 8 or len(block) < number_bytes + 3:
            raise DamagedMedia("WebM: a block without its header")
        number = int.from_bytes(block[:number_bytes], "big") & (1 << 7 * number_bytes) - 1
        if track is None or number != self._number:
            return
        frames = list(_laced(block[number_bytes + 2] >> 1 & 3, block[number_bytes + 3 :]))
        trim = max(0, round(discard_ns * track.sample_rate / 1e9))
        for index, frame in enumerate(frames):
            out.append(_packet(track, frame, trim if index == len(frames) - 1 else 0))


def _packet(track: Track, data: bytes, trim: int) -> Packet:
    match track.codec:
        case AudioCodec.OPUS:
            samples = packet_samples(data)
        case AudioCodec.FLAC:
            samples = flac_samples(data)
        case AudioCodec.AAC:
            samples = 1_024
        case AudioCodec.MP3:
            samples = 1_152 if track.sample_rate >= 32_000 else 576
        case _:
            samples = 0
    return Packet(data, samples, min(trim, samples) if samples else trim)


def _check_document(data: bytes) -> None:
    """Check the document type in an EBML header. It is small, so a search finds its one relevant child."""
    at = data.find(_DOCUMENT_TYPE.to_bytes(2, "big"))
    if at >= 0 and len(data) > at + 3:
        kind = data[at + 3 : at + 3 + (data[at + 2] & 0x7F)].rstrip(b"\0")
        if kind not in {b"webm", b"matroska"}:
            raise UnsupportedMedia(f"EBML: expected WebM or Matroska, got document type {kind[:20]!r}")


def _read_entry(entry: _PendingJob, id_: int, data: bytes) -> None:
    match id_:
        case 0xD7:
            entry.number = int.from_bytes(data, "big")
        case 0x83:
            entry.type = int.from_bytes(data, "big")
        case 0x86:
            entry.codec = data.rstrip(b"\0").decode("ascii", "replace")
        case 0x63A2:
            entry.private = data
        case 0x9F:
            entry.channels = int.from_bytes(data, "big")
        case 0x6264:
            entry.bits = int.from_bytes(data, "big")
        case 0x56AA:
            entry.delay_ns = min(int.from_bytes(data, "big"), 10**10)
        case 0xB5 if len(data) in (4, 8):
            rate = struct.unpack(">f" if len(data) == 4 else ">d", data)[0]
            entry.rate = rate if 1_000 <= rate <= 768_000 else 0.0


def _track(entry: _PendingJob) -> Track:
    codec, rate, channels = entry.codec, int(entry.rate), entry.channels
    if not 1 <= channels <= 8:
        raise UnsupportedMedia(f"WebM: expected 1 to 8 channels, got {channels}")
    if codec == "A_OPUS":
        skip = round(entry.delay_ns * CLOCK_RATE / 1e9) if entry.delay_ns else None
        return opus_track(entry.private or plain_header(min(2, channels)), skip)
    if codec == "A_FLAC":
        return flac_track(entry.private[_FLAC_INFO_AT:])
    if codec == "A_AAC":
        return Track(AudioCodec.AAC, rate, channels, entry.private)
    if codec == "A_MPEG/L3":
        return Track(AudioCodec.MP3, rate, channels)
    if encoding := _PCM.get((codec, entry.bits)):
        return Track(AudioCodec.PCM, rate, channels, encoding=encoding)
    raise UnsupportedMedia(f"WebM: expected Opus, FLAC, AAC, MP3 or PCM, got {codec[:40]!r}")


def _laced(kind: int, data: bytes) -> Iterator[bytes]:
    """Yield the frames of a block."""
    if not kind:
        yield data
        return
    if not data:
        raise DamagedMedia("WebM: a block with lacing is cut short")
    count = data[0] + 1
    try:
        at, sizes = _LACES[kind](data, count)
    except IndexError:
        raise DamagedMedia("WebM: a block with lacing is cut short") from None
    if kind != _FIXED:
        sizes.append(len(data) - at - sum(sizes))
    if min(sizes) < 0:
        raise DamagedMedia("WebM: a block with lacing whose frames are longer than it")
    for size in sizes:
        yield data[at : at + size]
        at += size


def _xiph_sizes(data: bytes, count: int) -> tuple[int, list[int]]:
    at, sizes = 1, []
    for _ in range(count - 1):
        size = 0
        while data[at] == 255:
            size, at = size + 255, at + 1
        sizes.append(size + data[at])
        at += 1
    return at, sizes


def _fixed_sizes(data: bytes, count: int) -> tuple[int, list[int]]:
    if (len(data) - 1) % count:
        raise DamagedMedia("WebM: a block with lacing does not divide into its frames")
    return 1, [(len(data) - 1) // count] * count


def _ebml_sizes(data: bytes, count: int) -> tuple[int, list[int]]:
    at, sizes = 1, list[int]()
    for index in range(count - 1):
        width = 9 - data[at].bit_length()
        if width > 8:
            raise IndexError
        value = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
        at += width
        sizes.append(value if index == 0 else sizes[-1] + value - ((1 << 7 * width - 1) - 1))
    return at, sizes


_LACES = {_XIPH: _xiph_sizes, _FIXED: _fixed_sizes, _EBML: _ebml_sizes}
