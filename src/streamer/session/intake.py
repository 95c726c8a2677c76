"""From the bytes of one stream to its channels' samples, at the model's rate and at the speech scorer's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.coding import Coding, Kept, Pcm, Samples, coding
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder, repaired
from streamer.audio.resample import Resampler

_SPARE_BYTES = 128 * 1024
"""Bytes that wait, past which memory that is not needed any more is given back."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """The same audio by channel: for the buffer of what the model may want, and for who looks for speech."""

    model: Sequence[Kept]
    speech: Sequence[Samples]
    speech_bytes: int
    """Bytes of memory that `speech` takes beside `model`."""


class Intake(ABC):
    """Appends bytes when they come, hands them on when they are wanted."""

    wanted_bytes: int
    """How many bytes must wait before `take` is worth a call."""

    @property
    @abstractmethod
    def pending_bytes(self) -> int:
        """Received and not yet handed on."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory that it takes for audio."""

    @property
    @abstractmethod
    def clamped(self) -> int:
        """Samples that were not finite or out of range."""

    @abstractmethod
    def append(self, data: bytes) -> bool:
        """Keep the bytes; whether `take` has something."""

    @abstractmethod
    def take(self, max_steps: int) -> Taken:
        """What completes as many steps as have come, `max_steps` at most."""

    @abstractmethod
    def drain(self) -> Taken:
        """Every whole frame, and what resamplers hold back. Audio may follow; positions go on."""


def intake_for(
    format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
) -> tuple[Intake, Coding | None]:
    """What a stream's audio goes through, and how it is kept for the model after that; None where it comes decoded.

    Rates in Hz; `speech_rate` None where no speech is looked for. `step` and `parts`: `parts` steps are `step` samples
    at `speech_rate` (else the model's), so that what is cut there, a window or a piece, never waits for a message more.
    """
    kept = kept_coding(format, model_rate, speech_rate, step, parts)
    if kept is None:
        return Conversion(format, model_rate, speech_rate, step, parts), None
    scored = coding(format.encoding, format.sample_rate, speech_rate or model_rate)
    assert scored is not None
    return Passage(format, scored, step // parts), kept


def kept_coding(
    format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
) -> Coding | None:
    """Return how a stream's audio is kept for the model, or None for decoded; see `intake_for`."""
    kept = coding(format.encoding, format.sample_rate, model_rate)
    scored = coding(format.encoding, format.sample_rate, speech_rate or model_rate)
    return kept if scored is not None and step % (parts * scored.multiple) == 0 else None


class Passage(Intake):
    """An Intake that converts nothing: in an encoding, and from a rate, that can wait until much is converted at once.

    `model` is bytes, what has come since the last time; `speech` has whole steps with what their filter looks at.
    Floats alone are looked at before they are handed on: they may be no numbers.
    """

    def __init__(self, format: AudioFormat, speech: Coding, step: int) -> None:
        """`step`: samples, as `speech` counts them."""
        self._format = format
        self._coding = speech
        self._step = speech.size(step) * format.channels
        self._around = speech.around * format.channels
        self._floats = format.encoding is Encoding.PCM_F32LE
        self._clamped = 0
        self._raw = bytearray(speech.silence(speech.before * format.channels))  # from the next step's surroundings on
        self._new = len(self._raw)  # where in it that begins which is not handed on yet
        self.wanted_bytes = self._step + self._around - self._new

    @property
    def pending_bytes(self) -> int:
        return len(self._raw) - self._new

    @property
    def nbytes(self) -> int:
        return self._raw.__alloc__()

    @property
    def clamped(self) -> int:
        return self._clamped

    def append(self, data: bytes) -> bool:
        self._raw += data
        return len(self._raw) - self._new >= self.wanted_bytes

    def take(self, max_steps: int) -> Taken:
        steps = (len(self._raw) - self._around) // self._step
        done = self._step * (steps if steps < max_steps else max_steps)
        return self._hand_on(done + self._around, done)

    def drain(self) -> Taken:
        whole = self.pending_bytes - self.pending_bytes % self._format.frame_bytes
        end, coding, channels = self._new + whole, self._coding, self._format.channels
        done = coding.size(coding.due(end // self._format.frame_bytes - coding.before)) * channels
        silence = coding.silence((coding.before + coding.after) * channels)  # more than can be missing
        return self._hand_on(end, done, silence)

    def _hand_on(self, end: int, done: int, silence: bytes = b"") -> Taken:
        """`end`: of what has been handed on now, in all that is there; `done`: of what no later step looks at."""
        if self._floats:
            self._repair(end)
        raw, around = self._raw, self._around
        speech = raw[:end]
        new = raw[self._new : end] if around else speech
        if silence:
            speech = (speech + silence)[: done + around]
        del raw[:done]
        if len(raw) > _SPARE_BYTES:
            self._raw = _compact(raw)
        self._new = end - done
        self.wanted_bytes = self._step + around - self._new
        is_shared = new is speech
        if self._format.channels == 1:
            return Taken((new,), (Pcm(self._coding, speech),), 0 if is_shared else len(speech))
        models = self._separate(new)
        speeches = models if is_shared else self._separate(speech)
        return Taken(models, [Pcm(self._coding, data) for data in speeches], 0 if is_shared else len(speech))

    def _repair(self, end: int) -> None:
        samples, clamped = repaired(self._raw[self._new : end], 4)
        if clamped:
            self._clamped += clamped
            self._raw[self._new : end] = samples.astype("<f4").tobytes()

    def _separate(self, data: bytearray) -> list[bytes]:
        """By channel, of whole frames."""
        samples = np.frombuffer(data, np.uint8).reshape(-1, self._format.channels, self._format.encoding.sample_bytes)
        return [samples[:, channel].tobytes() for channel in range(self._format.channels)]


class Conversion(Intake):
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
    def nbytes(self) -> int:
        return self._raw.__alloc__()

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
        return Taken(list(model), list(speech), speech.nbytes)

    def drain(self) -> Taken:
        whole = len(self._raw) - len(self._raw) % self.format.frame_bytes
        model, speech = self._convert(whole)
        self._base, self._steps = self._taken, 0
        self.wanted_bytes = self._bytes_until(1)
        if self._model:
            model = _concat(model, self._model.flush())
        speech = _concat(speech, self._speech.flush()) if self._speech else model
        return Taken(list(model), list(speech), speech.nbytes)

    def _convert(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 [channels, n] at the model's rate and at the speech scorer's."""
        data = self._raw[:count]
        del self._raw[:count]
        if len(self._raw) > _SPARE_BYTES:
            self._raw = _compact(self._raw)
        self._taken += count // self.format.frame_bytes
        samples = self._decoder.push(data)
        model = self._model.push(samples) if self._model else samples
        return model, self._speech.push(samples) if self._speech else model

    def _bytes_until(self, steps: int) -> int:
        """Bytes that must be converted for so many steps more to come out of the resampler."""
        step, parts, rate, speech_rate = self._step
        samples = (self._steps + steps) * step // parts + self._lag
        return (self._base - self._taken - (-samples * rate // speech_rate)) * self.format.frame_bytes


def _compact(data: bytearray) -> bytearray:
    """Return the same in less memory if much of it is not used: what is removed at the front stays allocated."""
    return bytearray(data) if data.__alloc__() > len(data) * 5 // 4 else data


def _concat(head: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((head, tail), axis=1) if tail.shape[1] else head
