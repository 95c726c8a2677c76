"""From one format of PCM to another, for recordings of several formats in one stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder
from streamer.audio.resample import Resampler


class Conversion:
    """Converts a stream of PCM: channels, then rate, then encoding."""

    def __init__(self, before: AudioFormat, after: AudioFormat) -> None:
        """`after` is 16-bit integers or 32-bit floats."""
        self._after = after
        self._decoder = Decoder(before)
        self._resampler = Resampler(before.sample_rate, after.sample_rate, after.channels)

    def push(self, data: bytes) -> bytes:
        """Convert whole frames; some may be held back."""
        return self._encode(self._resampler.push(self._mix(self._decoder.push(data))))

    def flush(self) -> bytes:
        """Return the samples that the resampler held back."""
        return self._encode(self._resampler.flush())

    def _mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """As many channels as are wanted: the mean of all for one, else the first ones, the last one repeated."""
        have, want = len(samples), self._after.channels
        if have == want:
            return samples
        if want == 1:
            mean: NDArray[np.float32] = np.mean(samples, axis=0, keepdims=True, dtype=np.float32)
            return mean
        return samples[np.minimum(np.arange(want), have - 1)]

    def _encode(self, samples: NDArray[np.float32]) -> bytes:
        interleaved = samples.T
        if self._after.encoding is Encoding.PCM_S16LE:
            return np.clip(np.rint(interleaved * 32_768), -32_768, 32_767).astype("<i2").tobytes()
        return np.ascontiguousarray(interleaved, "<f4").tobytes()


def mono(format: AudioFormat) -> AudioFormat:
    """Return the format with one channel, in float32 or 16 bit."""
    encoding = Encoding.PCM_S16LE if format.encoding is Encoding.PCM_S16LE else Encoding.PCM_F32LE
    return AudioFormat(encoding, format.sample_rate, 1)
