"""Tracks and packets, which demuxers give, and the errors of media that cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Protocol

import msgspec

from streamer.audio.format import Encoding
from streamer.errors import ErrorCode, InvalidFormat, StreamerError

MAX_PACKET_BYTES = 256 * 1024
"""The largest packet of any codec but FLAC, whose own bound is in `flac`."""
MAX_HEADER_BYTES = 64 * 1024
"""The largest header of a codec or a container."""
MAX_GARBAGE_BYTES = 64 * 1024
"""Bytes that may be passed over in search of the next frame."""
MAX_TRACKS = 64


class UnsupportedMedia(InvalidFormat):
    """A container or a codec that is not served."""


class DamagedMedia(StreamerError):
    """Media that breaks the rules of its own format, or a bound of ours."""

    code = ErrorCode.INVALID_AUDIO


class AudioCodec(StrEnum):
    """Codecs that are decoded. No input can reach another one."""

    PCM = "pcm"
    OPUS = "opus"
    FLAC = "flac"
    MP3 = "mp3"
    AAC = "aac"
    AMR_NB = "amrnb"
    AMR_WB = "amrwb"
    G722 = "g722"


@dataclass(frozen=True, slots=True)
class Track:
    """The audio that follows, as its container describes it. The decoder knows better: see `Decoder.format`."""

    codec: AudioCodec
    sample_rate: int
    """Hz; `skip`, `length` and the packets' numbers count at this rate."""
    channels: int
    setup: bytes = b""
    """The codec's own header."""
    skip: int = 0
    """Samples per channel to drop at the start."""
    length: int | None = None
    """Samples per channel after `skip`, if the container says it."""
    encoding: Encoding | None = None
    """Of PCM."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """The bytes that a codec decodes at once."""

    data: bytes
    samples: int
    """Samples per channel in it; 0 for a part of PCM."""
    trim: int = 0
    """Samples per channel to drop at its end."""


class Demuxer(Protocol):
    """Takes a container apart as its bytes come, cut anywhere. Keeps a bounded part of them. Knows no I/O.

    Its output depends on the bytes alone, not on the cuts. `push` raises DamagedMedia or UnsupportedMedia.
    """

    name: ClassVar[str]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that wait for their rest."""
        ...

    def push(self, data: bytes) -> Iterable[Track | Packet]:
        """Take bytes; return the tracks and packets that they complete."""
        ...

    def finish(self) -> Iterable[Track | Packet]:
        """End the bytes: return tracks and packets that waited for more. They may be many and are read as needed."""
        ...
