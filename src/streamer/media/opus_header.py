"""Opus as containers carry it: its header (RFC 7845) and the length of a packet (RFC 6716)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from streamer.media.packets import AudioCodec, DamagedMedia, Track, UnsupportedMedia

CLOCK_RATE = 48_000
"""Hz at which Opus counts, whatever was recorded."""
MAX_PACKET_SAMPLES = 5_760
"""Of one packet: 120 ms."""
_MAGIC = b"OpusHead"
_FIXED_BYTES = 19
_FRAME_SAMPLES = (
    *(480, 960, 1_920, 2_880) * 3,  # SILK
    *(480, 960) * 2,  # hybrid
    *(120, 240, 480, 960) * 4,  # CELT
)
"""By the configuration in a packet's first byte."""


@dataclass(frozen=True, slots=True)
class OpusHeader:
    """The settings of a decoder of Opus."""

    channels: int
    gain_db: float = 0.0
    streams: int = 0
    """0: one stream of one or two channels, without a mapping."""
    coupled: int = 0
    mapping: bytes = b""


def read_header(data: bytes) -> tuple[OpusHeader, int]:
    """Return the header and its pre-skip in samples. Raises DamagedMedia or UnsupportedMedia."""
    if not data.startswith(_MAGIC):
        raise DamagedMedia(f"Opus header: expected OpusHead, got {data[:8].hex(' ') or 'nothing'}")
    if len(data) < _FIXED_BYTES:
        raise DamagedMedia(f"Opus header: expected at least {_FIXED_BYTES} bytes, got {len(data)}")
    version, channels, skip, _, gain, family = struct.unpack_from("<BBHIhB", data, len(_MAGIC))
    if version & 0xF0:
        raise UnsupportedMedia(f"Opus header: expected version 0 to 15, got {version}")
    if not 1 <= channels <= 8:
        raise UnsupportedMedia(f"Opus: expected 1 to 8 channels, got {channels}")
    gain_db = gain / 256
    if family == 0 and channels <= 2:
        return OpusHeader(channels, gain_db), skip
    if family != 1:
        raise UnsupportedMedia(f"Opus: expected channel mapping family 0 or 1, got {family} with {channels} channels")
    if len(data) < _FIXED_BYTES + 2 + channels:
        raise DamagedMedia("Opus header: the channel mapping is cut short")
    streams, coupled, mapping = data[19], data[20], data[21 : 21 + channels]
    coded = streams + coupled
    if not streams or coupled > streams or coded > 255 or any(index != 255 and index >= coded for index in mapping):
        raise DamagedMedia("Opus header: the channel mapping names streams that are not there")
    return OpusHeader(channels, gain_db, streams, coupled, mapping), skip


def opus_track(data: bytes, skip: int | None = None) -> Track:
    """Return a track from its header; `skip` (samples) replaces the header's own. Raises what `read_header` does."""
    header, own_skip = read_header(data)
    return Track(AudioCodec.OPUS, CLOCK_RATE, header.channels, bytes(data), own_skip if skip is None else skip)


def plain_header(channels: int) -> bytes:
    """Return the header of one stream of one or two channels, for packets that come without a container."""
    return _MAGIC + struct.pack("<BBHIhB", 1, channels, 0, CLOCK_RATE, 0, 0)


def packet_samples(data: bytes) -> int:
    """Return the samples per channel of a packet at CLOCK_RATE, at most 120 ms; 0 for an invalid packet."""
    if not data:
        return 0
    frame, code = _FRAME_SAMPLES[data[0] >> 3], data[0] & 3
    frames = (1, 2, 2, data[1] & 63 if len(data) > 1 else 0)[code]
    samples = frame * frames
    return samples if samples <= MAX_PACKET_SAMPLES else 0
