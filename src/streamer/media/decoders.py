"""The decoder of a track."""

from __future__ import annotations

from typing import Protocol

from streamer.audio.format import AudioFormat
from streamer.media.flac_decoder import FlacDecoder
from streamer.media.libav import AvDecoder
from streamer.media.libopus import OpusDecoder, load_libopus
from streamer.media.opus_header import read_header
from streamer.media.packets import AudioCodec, Track

STATE_BYTES = {
    AudioCodec.PCM: 0,
    AudioCodec.OPUS: 32 * 1024,
    AudioCodec.FLAC: 16 * 1024,
    AudioCodec.MP3: 40 * 1024,
    AudioCodec.AAC: 700 * 1024,
    AudioCodec.AMR_NB: 24 * 1024,
    AudioCodec.AMR_WB: 24 * 1024,
    AudioCodec.G722: 24 * 1024,
}
"""Memory that a decoder takes, measured."""


class PacketDecoder(Protocol):
    """Decodes packets, each at once."""

    @property
    def format(self) -> AudioFormat | None:
        """Of what comes out; None until the first packet has told it."""
        ...

    def decode(self, data: bytes) -> bytes | None:
        """Interleaved samples of a packet; None if it cannot be decoded."""
        ...

    def conceal(self, samples: int) -> bytes:
        """Return what stands for a packet that cannot be decoded. `samples`: its length at the format's rate."""
        ...

    def flush(self) -> bytes:
        """Return the samples that were held back."""
        ...


class PcmDecoder:
    """A Decoder of PCM, whose packets may be cut anywhere: carries a part of a frame to the next one."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._rest = b""

    def decode(self, data: bytes) -> bytes | None:
        if self._rest:
            data = self._rest + data
        whole = len(data) - len(data) % self.format.frame_bytes
        self._rest = data[whole:]
        return data[:whole]

    def conceal(self, samples: int) -> bytes:
        return b""

    def flush(self) -> bytes:
        return b""


def decoder_for(track: Track, rate: int, *, downmix: bool, libopus: str = "") -> PacketDecoder:
    """Return the decoder for a track. Raises DamagedMedia, and UnsupportedMedia if a library is not installed.

    `rate`: preferred sample rate in Hz, for codecs with a choice. `downmix`: into one channel, if the codec can.
    `libopus`: see load_libopus.
    """
    match track.codec:
        case AudioCodec.PCM:
            assert track.encoding is not None
            return PcmDecoder(AudioFormat(track.encoding, track.sample_rate, track.channels).check())
        case AudioCodec.OPUS:
            return OpusDecoder(read_header(track.setup)[0], rate, downmix=downmix, library=load_libopus(libopus))
        case AudioCodec.FLAC:
            return FlacDecoder(track)
        case _:
            return AvDecoder(track)
