"""From the bytes of one stream to its channels' samples, at the model's rate and at the speech scorer's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.audio.buffer import Samples
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import LAZY, Decoder, Pcm
from streamer.audio.resample import Resampler


class Taken(NamedTuple):
    """The same audio at two rates, by channel; the same twice where the rates are equal."""

    model: Sequence[Samples]
    speech: Sequence[Samples]


class Intake(Protocol):
    """Appends bytes when they come, hands them on when they are wanted."""

    wanted_bytes: int
    """How many bytes must wait before `take` is worth a call."""

    @property
    def pending_bytes(self) -> int:
        """Received and not yet handed on."""
        ...

    @property
    def clamped(self) -> int:
        """Samples that were not finite or out of range."""
        ...

    def append(self, data: bytes) -> bool:
        """Keep the bytes; whether `take` has something."""
        ...

    def take(self, max_steps: int) -> Taken:
        """What completes as many steps as have come, `max_steps` at most."""
        ...

    def drain(self) -> Taken:
        """Every whole frame, and what resamplers hold back. Audio may follow; positions go on."""
        ...


def intake_for(
    format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
) -> tuple[Intake, Encoding | None]:
    """What a stream's audio goes through, and the encoding of what comes out; None where it comes decoded.

    Rates in Hz; `speech_rate` None where no speech is looked for. `step` and `parts`: `parts` steps are `step` samples
    at `speech_rate` (else the model's), so that what is cut there, a window or a piece, never waits for a message more.
    """
    as_it_is = format.channels == 1 and format.encoding in LAZY and format.sample_rate == model_rate
    if as_it_is and parts == 1 and speech_rate in (None, model_rate):
        return Passage(format, step), format.encoding
    return Conversion(format, model_rate, speech_rate, step, parts), None


class Passage:
    """An Intake that converts nothing: one channel at the rate that is wanted, in an encoding that can wait."""

    clamped = 0

    def __init__(self, format: AudioFormat, step: int) -> None:
        self._encoding = format.encoding
        self._frame_bytes = format.frame_bytes
        self._raw = bytearray()
        self.wanted_bytes = step * format.frame_bytes

    @property
    def pending_bytes(self) -> int:
        return len(self._raw)

    def append(self, data: bytes) -> bool:
        self._raw += data
        return len(self._raw) >= self.wanted_bytes

    def take(self, max_steps: int) -> Taken:
        raw, step = self._raw, self.wanted_bytes
        steps = len(raw) // step
        return self._hand_on(step * (steps if steps < max_steps else max_steps))

    def drain(self) -> Taken:
        return self._hand_on(len(self._raw) - len(self._raw) % self._frame_bytes)

    def _hand_on(self, count: int) -> Taken:
        pcm = (Pcm(self._encoding, self._raw[:count]),)
        del self._raw[:count]
        return Taken(pcm, pcm)


class Conversion:
    """An Intake that decodes and resamples.

    A message costs one append. The conversion waits until another step of audio can be completed, because per-call
    costs dominate at 20 ms messages, and takes just what completes it.
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

    @property
    def pending_bytes(self) -> int:
        return len(self._raw)

    @property
    def clamped(self) -> int:
        return self._decoder.clamped

    def append(self, data: bytes) -> bool:
        self._raw += data
        return len(self._raw) >= self.wanted_bytes

    def take(self, max_steps: int) -> Taken:
        steps, count, more = 0, 0, self.wanted_bytes
        while steps < max_steps and more <= len(self._raw):
            steps, count = steps + 1, more
            more = self._bytes_until(steps + 1)
        model, speech = self._convert(count)
        self._steps += steps
        self.wanted_bytes = more - count
        return Taken(list(model), list(speech))

    def drain(self) -> Taken:
        whole = len(self._raw) - len(self._raw) % self.format.frame_bytes
        model, speech = self._convert(whole)
        self._base, self._steps = self._taken, 0
        self.wanted_bytes = self._bytes_until(1)
        if self._model:
            model = _concat(model, self._model.flush())
        speech = _concat(speech, self._speech.flush()) if self._speech else model
        return Taken(list(model), list(speech))

    def _convert(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 [channels, n] at the model's rate and at the speech scorer's."""
        data = self._raw[:count]
        del self._raw[:count]
        self._taken += count // self.format.frame_bytes
        samples = self._decoder.push(data)
        model = self._model.push(samples) if self._model else samples
        return model, self._speech.push(samples) if self._speech else model

    def _bytes_until(self, steps: int) -> int:
        """Bytes that must be converted for so many steps more to come out of the resampler."""
        step, parts, rate, speech_rate = self._step
        samples = (self._steps + steps) * step // parts + self._lag
        return (self._base - self._taken - (-samples * rate // speech_rate)) * self.format.frame_bytes


def _concat(head: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((head, tail), axis=1) if tail.shape[1] else head
