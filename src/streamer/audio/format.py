"""The format of a stream's bytes: encoding, sample rate and channels, validated before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from streamer.errors import InvalidFormat


class Encoding(StrEnum):
    """Supported encodings of samples; all but G.711 are linear PCM, interleaved."""

    PCM_U8 = "pcm_u8"
    PCM_S16LE = "pcm_s16le"
    PCM_S16BE = "pcm_s16be"
    PCM_S24LE = "pcm_s24le"
    PCM_S32LE = "pcm_s32le"
    PCM_F32LE = "pcm_f32le"
    PCM_F64LE = "pcm_f64le"
    MULAW = "mulaw"
    ALAW = "alaw"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel."""
        return _SAMPLE_BYTES[self]


_SAMPLE_BYTES = {
    Encoding.PCM_U8: 1,
    Encoding.PCM_S16LE: 2,
    Encoding.PCM_S16BE: 2,
    Encoding.PCM_S24LE: 3,
    Encoding.PCM_S32LE: 4,
    Encoding.PCM_F32LE: 4,
    Encoding.PCM_F64LE: 8,
    Encoding.MULAW: 1,
    Encoding.ALAW: 1,
}

MIN_SAMPLE_RATE = 4_000
MAX_SAMPLE_RATE = 192_000
MAX_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The declared format of a stream. `sample_rate` in Hz; a frame is one sample of every channel."""

    encoding: Encoding
    sample_rate: int
    channels: int
    frame_bytes: int = field(init=False, repr=False, compare=False)
    """Bytes of one frame."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_bytes", self.encoding.sample_bytes * self.channels)

    def check(self, *, max_channels: int = MAX_CHANNELS) -> AudioFormat:
        """Return self, or raise InvalidFormat, naming the field, the range and the received value."""
        for name, value, low, high in (
            ("channels", self.channels, 1, max_channels),
            ("sample_rate", self.sample_rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE),
        ):
            # bool is an int to Python, and JSON's 1.5 may arrive from an untyped protocol version: both are refused.
            if type(value) is not int or not low <= value <= high:
                raise InvalidFormat(field=f"format.{name}", expected=f"an integer from {low} to {high}", got=value)
        return self
