"""From the bytes of one stream to its channels' samples, at the model's rate and at the speech scorer's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.audio.format import AudioFormat
from streamer.audio.pcm import Decoder
from streamer.audio.resample import Resampler


class Samples(NamedTuple):
    """The same audio at two rates, float32 [channels, n] each; one array twice where the rates are equal."""

    model: NDArray[np.float32]
    speech: NDArray[np.float32]


class Intake:
    """Appends bytes when they come, converts them when they are wanted.

    A message costs one append. The conversion waits until another step of audio can be completed, because per-call
    costs dominate at 20 ms messages, and takes just what completes it. Rates in Hz; `speech_rate` None where no speech
    is looked for. `step` and `parts`: `parts` steps are `step` samples at `speech_rate` (else the model's), so that
    what is cut there, a window or a piece, never waits for a message more.
    """

    def __init__(
        self, format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
    ) -> None:
        rate, channels = format.sample_rate, format.channels
        self.format = format
        self._raw = bytearray()
        self._decoder = Decoder(format)
        self._model = Resampler(rate, model_rate, channels) if rate != model_rate else None
        self._speech: Resampler | None = None
        if speech_rate not in (None, model_rate):
            self._speech = Resampler(rate, speech_rate, channels)
        slowest = self._speech or self._model
        self._lag = slowest.least_delay if slowest else 0
        self._step = (step, parts, rate, speech_rate or model_rate)
        self._taken = self._base = self._steps = 0
        self.wanted_bytes = self._bytes_until(1)
        """How many bytes must wait before `take` is worth a call."""

    @property
    def pending_bytes(self) -> int:
        """Received and not yet converted."""
        return len(self._raw)

    @property
    def clamped(self) -> int:
        """Samples that were not finite or out of range."""
        return self._decoder.clamped

    def append(self, data: bytes) -> int:
        """Keep the bytes; returns how many wait."""
        self._raw += data
        return len(self._raw)

    def take(self, max_steps: int) -> Samples:
        """Convert what completes as many steps as have come, `max_steps` at most."""
        steps, count, more = 0, 0, self.wanted_bytes
        while steps < max_steps and more <= len(self._raw):
            steps, count = steps + 1, more
            more = self._bytes_until(steps + 1)
        samples = self._convert(count)
        self._steps += steps
        self.wanted_bytes = more - count
        return samples

    def drain(self) -> Samples:
        """Convert every whole frame and what the resamplers hold back. Audio may follow; positions go on."""
        whole = len(self._raw) - len(self._raw) % self.format.frame_bytes
        taken = self._convert(whole)
        self._base, self._steps = self._taken, 0
        self.wanted_bytes = self._bytes_until(1)
        model = _concat(taken.model, self._model.flush()) if self._model else taken.model
        if self._speech:
            return Samples(model, _concat(taken.speech, self._speech.flush()))
        return Samples(model, model)

    def _convert(self, count: int) -> Samples:
        data = self._raw[:count]
        del self._raw[:count]
        self._taken += count // self.format.frame_bytes
        samples = self._decoder.push(data)
        model = self._model.push(samples) if self._model else samples
        return Samples(model, self._speech.push(samples) if self._speech else model)

    def _bytes_until(self, steps: int) -> int:
        """Bytes that must be converted for so many steps more to come out of the resampler."""
        step, parts, rate, speech_rate = self._step
        samples = (self._steps + steps) * step // parts + self._lag
        return (self._base - self._taken - (-samples * rate // speech_rate)) * self.format.frame_bytes


def _concat(head: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((head, tail), axis=1) if tail.shape[1] else head
