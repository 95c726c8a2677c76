"""Validation of the audio in a model's output, in the worker: what leaves it is float32 of the declared shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.errors import brief
from streamer.inference.worker_protocol import NO_AUDIO
from streamer.models.author_errors import BadOutput
from streamer.models.contract import AudioOut

MAX_OUTPUT_S = 600.0
"""Maximum seconds of audio in the answer to one segment."""


class AudioCheck:
    """The format that a model declares. `sample_rate`: its `output_sample_rate` in Hz, 0 for none."""

    def __init__(self, sample_rate: int = 0, channels: int = 1) -> None:
        self._sample_rate = sample_rate
        self._channels = channels

    @property
    def is_declared(self) -> bool:
        """Whether the model may answer with audio."""
        return self._sample_rate > 0

    def checked(self, audio: AudioOut) -> memoryview:
        """Return the samples as the bytes of float32 [channels, n], in their own memory.

        Raises BadOutput, which names the attribute, the expected and the received value.
        """
        if not self._sample_rate:
            raise BadOutput("the model answered with audio, but it declares no output_sample_rate")
        if audio.sample_rate != self._sample_rate:
            raise _wrong("sample_rate", f"{self._sample_rate} (output_sample_rate)", brief(audio.sample_rate))
        samples = audio.samples
        if not isinstance(samples, np.ndarray) or samples.dtype.kind != "f":
            raise _wrong("samples", "an array of floats", getattr(samples, "dtype", type(samples).__name__))
        shape = samples.shape
        channels = shape[0] if samples.ndim == 2 else 1
        if samples.ndim not in (1, 2) or channels != self._channels:
            raise _wrong("samples", f"shape [n] or [channels, n] with {self._channels} channels", list(shape))
        self.check_length(samples.size * SAMPLE_BYTES)
        if not samples.size:
            return NO_AUDIO
        if not np.isfinite(samples).all():
            raise _wrong("samples", "finite numbers", "NaN or infinity")
        return memoryview(samples.astype(np.float32, order="C").tobytes())

    def check_length(self, size: int) -> None:
        """Raise BadOutput if the answer to a segment has more than MAX_OUTPUT_S of audio. `size`: its bytes."""
        seconds = size / SAMPLE_BYTES / self._channels / max(1, self._sample_rate)
        if seconds > MAX_OUTPUT_S:
            raise _wrong("samples", f"at most {MAX_OUTPUT_S:g} s for one segment", f"{seconds:g} s")

    def checked_all(self, found: Sequence[AudioOut]) -> memoryview:
        """Return the samples of the only audio in an output. Raises BadOutput for more."""
        if len(found) > 1:
            raise BadOutput(f"the model's output: expected at most one AudioOut, got {len(found)}")
        return self.checked(found[0])


def _wrong(field: str, expected: str, got: object) -> BadOutput:
    return BadOutput(f"the model's audio: {field}: expected {expected}, got {got}")
