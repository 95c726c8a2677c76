"""Mixing of channels, for protocols whose results belong to no channel."""

from __future__ import annotations

from streamer.audio.encode import encode as encode_pcm
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder


class Mixer:
    """Joins the channels of PCM into one, as pcm_s16le. The bytes may be cut anywhere."""

    def __init__(self, format_: AudioFormat) -> None:
        self._decoder = Decoder(format_)

    def push(self, data: bytes) -> bytes:
        """Return the whole frames of what has come, mixed."""
        return encode_pcm(Encoding.PCM_S16LE, self._decoder.push(data).mean(axis=0))
