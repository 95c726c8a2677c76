"""FLAC through libsndfile: every frame is a file of its own."""

from __future__ import annotations

import io
from typing import Any

from streamer.audio.format import AudioFormat, Encoding
from streamer.media.flac_header import flac_samples, read_info
from streamer.media.packets import Track

_STREAM_INFO_BLOCK = b"fLaC\x80\x00\x00\x22"
"""The marker, and the header of a metadata block that is STREAMINFO and the last one."""
_LENGTH_BITS = 36


class FlacDecoder:
    """A Decoder of FLAC. Frames do not depend on each other, so a file of one frame gives the same samples."""

    def __init__(self, track: Track) -> None:
        info = read_info(track.setup)
        self._start = _STREAM_INFO_BLOCK + track.setup[:4] + bytes(6)
        self._packed = int.from_bytes(track.setup[10:18], "big") >> _LENGTH_BITS << _LENGTH_BITS
        self._type, encoding = ("int16", Encoding.PCM_S16LE) if info.bits <= 16 else ("int32", Encoding.PCM_S32LE)
        self.format = AudioFormat(encoding, info.sample_rate, info.channels)

    def decode(self, data: bytes) -> bytes | None:
        """Interleaved samples of a frame; None if it cannot be decoded."""
        block = flac_samples(data)
        file = self._start + (self._packed | block).to_bytes(8, "big") + bytes(16) + data
        try:
            with _soundfile().SoundFile(io.BytesIO(file)) as opened:
                samples = opened.read(block, dtype=self._type, always_2d=True)
        except (RuntimeError, ValueError):  # libsndfile's own errors are RuntimeErrors
            return None
        if samples.shape != (block, self.format.channels):
            return None
        return samples.tobytes()  # type: ignore[no-any-return]

    def conceal(self, samples: int) -> bytes:
        """Silence."""
        return bytes(samples * self.format.frame_bytes)

    def flush(self) -> bytes:
        return b""


def _soundfile() -> Any:
    import soundfile  # noqa: PLC0415 (not every server has a client that sends FLAC)

    return soundfile
