"""AAC, MP3, AMR and G.722 through PyAV, an extra: packets into codecs of an allow-list, never a container."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, Encoding
from streamer.errors import install_command
from streamer.media.packets import AudioCodec, Track, UnsupportedMedia

_NAMES = {
    AudioCodec.AAC: "aac",
    AudioCodec.MP3: "mp3float",
    AudioCodec.AMR_NB: "amrnb",
    AudioCodec.AMR_WB: "amrwb",
    AudioCodec.G722: "g722",
}
"""The decoders that can be reached, whatever a file names."""
_MAX_PLANES = 7
"""PyAV 18.1 reads past the planes of a frame that has eight or more of them, and crashes. A damaged packet of one
channel can claim 31, so the number is looked at before any plane is."""


class AvDecoder:
    """A Decoder of one of PyAV's codecs. Its samples are float32, clamped to [-1, 1]."""

    def __init__(self, track: Track) -> None:
        """Open the codec. Raises UnsupportedMedia if PyAV is not installed or does not have it."""
        av = load_av(track.codec)
        self._av = av
        try:
            context = av.CodecContext.create(_NAMES[track.codec], "r")
        except av.FFmpegError:
            raise UnsupportedMedia(f"{track.codec.upper()}: PyAV was built without its decoder") from None
        context.thread_count = 1
        if track.setup:
            context.extradata = track.setup
        if MIN_SAMPLE_RATE <= track.sample_rate <= MAX_SAMPLE_RATE:
            context.sample_rate = track.sample_rate
        if track.codec is not AudioCodec.AAC and track.channels in (1, 2):
            context.layout = "mono" if track.channels == 1 else "stereo"
        self._context = context
        self._name = track.codec.upper()
        self.format: AudioFormat | None = None

    def decode(self, data: bytes) -> bytes | None:
        """Interleaved samples of a packet; None if it cannot be decoded."""
        return self._frames(self._av.Packet(data))

    def conceal(self, samples: int) -> bytes:
        """Silence."""
        return bytes(samples * self.format.frame_bytes) if self.format is not None else b""

    def flush(self) -> bytes:
        return self._frames(None) or b""

    def _frames(self, packet: Any) -> bytes | None:
        try:
            frames = self._context.decode(packet)
        except (self._av.FFmpegError, ValueError):
            return None
        parts = []
        for frame in frames:
            samples = _samples(frame)
            if samples is None:
                if self.format is None and frame.layout.nb_channels > _MAX_PLANES:
                    raise UnsupportedMedia(
                        f"{self._name}: expected at most {_MAX_PLANES} channels, got {frame.layout.nb_channels}"
                    )
                return None
            # A format is taken from the decoder: MP4 says two channels of AAC that has one.
            if self.format is None or (self.format.sample_rate, self.format.channels) != (
                frame.sample_rate,
                samples.shape[1],
            ):
                self.format = AudioFormat(Encoding.PCM_F32LE, frame.sample_rate, samples.shape[1])
            parts.append(samples.tobytes())
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _samples(frame: Any) -> NDArray[np.float32] | None:
    """float32 [n, channels] of a frame; None for one that no served stream has."""
    channels = frame.layout.nb_channels
    max_planes = _MAX_PLANES if frame.format.is_planar else MAX_CHANNELS
    if not 1 <= channels <= max_planes or not MIN_SAMPLE_RATE <= frame.sample_rate <= MAX_SAMPLE_RATE:
        return None
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.int16:
        return np.ascontiguousarray(values).astype(np.float32) * np.float32(1 / 32_768)
    if values.dtype != np.float32:
        return None
    if not np.abs(values).max(initial=0.0) <= 1.0:  # as it is of NaN
        values = np.clip(np.nan_to_num(values, nan=0.0), np.float32(-1), np.float32(1))
    samples: NDArray[np.float32] = values
    return samples


@cache
def load_av(codec: AudioCodec) -> Any:
    """Return the package. Raises UnsupportedMedia if it is not installed."""
    try:
        import av  # noqa: PLC0415 (an extra, 50 ms)
    except ImportError:
        name = codec.value.upper()
        raise UnsupportedMedia(f"{name}: expected PyAV, which is not installed here: {install_command('av')}") from None
    av.logging.set_level(None)
    return av
