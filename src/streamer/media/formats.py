"""The formats of compressed audio that a client may declare."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from streamer.audio.format import MAX_CHANNELS, AudioFormat, Encoding
from streamer.errors import InvalidFormat


class Container(StrEnum):
    """How compressed audio comes, as `format.encoding` says it."""

    AUTO = "auto"
    """The first bytes decide."""
    OGG = "ogg"
    WEBM = "webm"
    MP4 = "mp4"
    WAV = "wav"
    FLAC = "flac"
    MP3 = "mp3"
    AAC = "aac"
    """With ADTS headers."""
    AMR = "amr"
    OPUS = "opus"
    """Raw packets of Opus, each a message."""
    G722 = "g722"
    """Raw G.722 at 64 kbit/s, cut anywhere."""


_RAW_CHANNELS = {Container.OPUS: 2, Container.G722: 1}
"""Most channels of audio without a container."""


class MediaFormat(msgspec.Struct, frozen=True):
    """Compressed audio as declared. The audio itself says the rest."""

    container: Container
    channels: int | None = None
    """Of raw packets of Opus, which do not say it: 1 or 2; None for 1. Containers know better."""
    downmix: bool = False
    """Join all channels into one."""

    def check(self) -> MediaFormat:
        """Return self, or raise InvalidFormat naming the field, the range and what came."""
        max_channels = _RAW_CHANNELS.get(self.container, MAX_CHANNELS)
        if self.channels is not None and not 1 <= self.channels <= max_channels:
            expected = f"an integer from 1 to {max_channels}"
            raise InvalidFormat(field="format.channels", expected=expected, got=self.channels)
        return self


def provisional() -> AudioFormat:
    """Return a guess at the format that compressed audio is decoded to, for as long as it is not known."""
    return AudioFormat(Encoding.PCM_S16LE, 16_000, 1)
