"""The index of MP4 (ISO 14496-12): the audio track, and the places of its samples."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from streamer.media.flac_header import flac_track
from streamer.media.opus_header import opus_track
from streamer.media.packets import MAX_PACKET_BYTES, MAX_TRACKS, AudioCodec, DamagedMedia, Track, UnsupportedMedia

MAX_FRAGMENT_SAMPLES = 65_536
_MAX_SKIP = 1 << 20
_AAC_TYPES = frozenset({0x40, 0x66, 0x67, 0x68})
_MP3_TYPES = frozenset({0x69, 0x6B})
_MAX_CONFIG_BYTES = 64


class Sample(NamedTuple):
    """The place of one packet in the file, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Index:
    """The part of `moov` about the first track that is audio."""

    track: Track
    track_id: int
    default_size: int
    """Bytes of a sample of a fragment that does not say it."""
    tables: bytes | None
    """Those of a file that is not in fragments."""

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of a file without fragments, read from its tables as they are needed."""
        return _table_samples(self.tables) if self.tables is not None else iter(())


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the boxes in a box: (kind, content). Raises DamagedMedia."""
    at = 0
    while at + 8 <= len(data):
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise DamagedMedia("MP4: a box leaves its parent")
        yield data[at + 4 : at + 8], data[at + head : at + size]
        at += size


def find(data: bytes, *path: bytes) -> bytes | None:
    """Return the content of the first box at a path, or None."""
    for kind in path:
        found = next((content for name, content in boxes(data) if name == kind), None)
        if found is None:
            return None
        data = found
    return data


def need(data: bytes, *path: bytes) -> bytes:
    """`find`, of a box that must be there. Raises DamagedMedia."""
    found = find(data, *path)
    if found is None:
        raise DamagedMedia(f"MP4: expected a box {path[-1].decode('latin-1')}, which is missing")
    return found


def read_index(moov: bytes) -> Index:
    """Read `moov`. Raises DamagedMedia, UnsupportedMedia, struct.error or IndexError for one that is cut short."""
    tracks = [content for kind, content in boxes(moov) if kind == b"trak"]
    if len(tracks) > MAX_TRACKS:
        raise DamagedMedia(f"MP4: expected at most {MAX_TRACKS} tracks, got {len(tracks)}")
    for content in tracks:
        handler = find(content, b"mdia", b"hdlr")
        if handler is not None and handler[8:12] == b"soun":
            return _read_track(moov, content)
    raise UnsupportedMedia(f"MP4: expected an audio track, got {len(tracks)} tracks without audio")


def _read_track(moov: bytes, content: bytes) -> Index:
    header = need(content, b"tkhd")
    track_id = _number(header, 20 if header[0] else 12)
    table = need(content, b"mdia", b"minf", b"stbl")
    is_fragmented = find(moov, b"mvex") is not None
    track = _entry(need(table, b"stsd")[8:])
    track = _edited(track, moov, content, has_length=not is_fragmented)
    defaults = {}
    for kind, box in boxes(find(moov, b"mvex") or b""):
        if kind == b"trex":
            defaults[_number(box, 4)] = _number(box, 16)
    return Index(track, track_id, defaults.get(track_id, 0), None if is_fragmented else table)


def _edited(track: Track, moov: bytes, content: bytes, *, has_length: bool) -> Track:
    """Return the track with the samples that its edit list drops at both ends."""
    edits = find(content, b"edts", b"elst")
    media, movie = need(content, b"mdia", b"mdhd"), need(moov, b"mvhd")
    scale, movie_scale = (_number(box, 20 if box[0] else 12) for box in (media, movie))
    if not edits or not scale or not movie_scale:
        return track
    form, size = (">Qq", 20) if edits[0] else (">Ii", 12)
    for index in range(min(_number(edits, 4), 2)):
        duration, begin = struct.unpack_from(form, edits, 8 + index * size)
        if begin < 0:  # silence in front, which is not played
            continue
        skip = round(begin * track.sample_rate / scale)
        length = round(duration * track.sample_rate / movie_scale) if duration and has_length else None
        return Track(
            track.codec,
            track.sample_rate,
            track.channels,
            track.setup,
            skip if 0 < skip < _MAX_SKIP else track.skip,
            length,
        )
    return track


def _entry(entries: bytes) -> Track:
    """Return a track from its first sample entry."""
    for kind, entry in boxes(entries):
        version, channels = struct.unpack_from(">H6xH", entry, 8)
        rate = _number(entry, 24) >> 16
        rest = entry[28 + {1: 16, 2: 36}.get(version, 0) :]
        match kind:
            case b"mp4a":
                descriptor = find(rest, b"esds") or find(rest, b"wave", b"esds")
                if descriptor is None:
                    raise DamagedMedia("MP4: AAC without its esds")
                return _described(descriptor[4:], rate, channels)
            case b"Opus":
                _, count, skip, clock, gain, family = struct.unpack_from(">BBHIhB", need(rest, b"dOps"))
                header = b"OpusHead" + struct.pack("<BBHIhB", 1, count, skip, clock, gain, family)
                return opus_track(header + need(rest, b"dOps")[11:])
            case b"fLaC":
                return flac_track(need(rest, b"dfLa")[8:])
            case b".mp3":
                return Track(AudioCodec.MP3, rate, channels)
            case _:
                name = kind.decode("latin-1")
                raise UnsupportedMedia(f"MP4: expected AAC, Opus, FLAC or MP3, got {name!r}")
    raise DamagedMedia("MP4: a track without a description")


def _described(data: bytes, rate: int, channels: int) -> Track:
    """Return a track from an MPEG-4 elementary stream descriptor."""
    tag, at, _ = _descriptor(data, 0)
    if tag == 3:
        flags = data[at + 2]
        at += 3
        at += 2 if flags & 0x80 else 0
        at += data[at] + 1 if flags & 0x40 else 0
        at += 2 if flags & 0x20 else 0
        tag, at, _ = _descriptor(data, at)
    if tag != 4:
        raise DamagedMedia("MP4: an esds without a decoder's configuration")
    kind = data[at]
    if kind in _MP3_TYPES:
        return Track(AudioCodec.MP3, rate, channels)
    if kind not in _AAC_TYPES:
        raise UnsupportedMedia(f"MP4: expected AAC or MP3, got MPEG-4 object type {kind:#04x}")
    tag, at, size = _descriptor(data, at + 13)
    if tag != 5 or not 2 <= size <= _MAX_CONFIG_BYTES:
        raise DamagedMedia("MP4: AAC without its AudioSpecificConfig")
    return Track(AudioCodec.AAC, rate, channels, bytes(data[at : at + size]))


def _descriptor(data: bytes, at: int) -> tuple[int, int, int]:
    """Return a descriptor's tag, and the position and size of its content."""
    tag, size = data[at], 0
    at += 1
    for _ in range(4):
        byte = data[at]
        at += 1
        size = size << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return tag, at, size


def _table_samples(tables: bytes) -> Iterator[Sample]:
    """By chunk. The tables stay bytes: an hour of AAC has 170,000 samples."""
    sizes, chunks = need(tables, b"stsz"), need(tables, b"stsc")
    offsets, is_wide = find(tables, b"stco"), False
    if offsets is None:
        offsets, is_wide = need(tables, b"co64"), True
    fixed, count = _number(sizes, 4), _number(sizes, 8)
    chunk_count, rows = _number(offsets, 4), _number(chunks, 4)
    width = 8 if is_wide else 4
    is_short = len(offsets) < 8 + chunk_count * width or len(chunks) < 8 + 12 * rows
    if is_short or not rows or (not fixed and len(sizes) < 12 + 4 * count):
        raise DamagedMedia("MP4: a table of samples is cut short")
    row = sample = 0
    for chunk in range(chunk_count):
        while row + 1 < rows and _number(chunks, 8 + 12 * (row + 1)) <= chunk + 1:
            row += 1
        at = 8 + chunk * width
        offset = int.from_bytes(offsets[at : at + width], "big")
        in_chunk = min(_number(chunks, 12 + 12 * row), count - sample)
        if not in_chunk and sample < count:
            raise DamagedMedia("MP4: a chunk without samples")
        if not in_chunk:
            return
        for _ in range(in_chunk):
            size = fixed or _number(sizes, 12 + 4 * sample)
            yield checked(Sample(offset, size))
            offset += size
            sample += 1


def read_fragment(moof: bytes, start: int, index: Index) -> list[Sample]:
    """Return the samples of a fragment at byte `start`. Raises DamagedMedia, struct.error or IndexError."""
    samples: list[Sample] = []
    for kind, traf in boxes(moof):
        if kind != b"traf":
            continue
        header = need(traf, b"tfhd")
        flags = int.from_bytes(header[1:4], "big")
        if _number(header, 4) != index.track_id:
            continue
        at, base = 8, start
        if flags & 0x01:
            base, at = struct.unpack_from(">Q", header, at)[0], at + 8
        at += 4 * (flags >> 1 & 1) + 4 * (flags >> 3 & 1)
        default = _number(header, at) if flags & 0x10 else index.default_size
        position = base
        for name, run in boxes(traf):
            if name == b"trun":
                position = _read_run(run, base, position, default, samples)
    return samples


def _read_run(run: bytes, base: int, position: int, default: int, samples: list[Sample]) -> int:
    """Append the samples of a run; returns where the next run begins if it does not say so."""
    flags, count, at = int.from_bytes(run[1:4], "big"), _number(run, 4), 8
    if flags & 0x01:
        position, at = base + struct.unpack_from(">i", run, at)[0], at + 4
    at += 4 * (flags >> 2 & 1)
    step, size_at = 4 * (flags & 0xF00).bit_count(), 4 * (flags >> 8 & 1)
    if len(samples) + count > MAX_FRAGMENT_SAMPLES:
        raise DamagedMedia(f"MP4: expected fragments of at most {MAX_FRAGMENT_SAMPLES} samples, got {count}")
    if count * step > len(run) - at:
        raise DamagedMedia("MP4: a run of samples is cut short")
    for entry in range(count):
        size = _number(run, at + entry * step + size_at) if flags & 0x200 else default
        samples.append(checked(Sample(position, size)))
        position += size
    return position


def checked(sample: Sample) -> Sample:
    """Return the sample unchanged. Raises DamagedMedia if its size is beyond the limit."""
    if not 1 <= sample.size <= MAX_PACKET_BYTES:
        raise DamagedMedia(f"MP4: expected samples of 1 to {MAX_PACKET_BYTES} bytes, got {sample.size}")
    return sample


def _number(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">I", data, at)[0])
