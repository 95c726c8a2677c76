"""The input pipeline: bytes of a stream to its channels' samples, at the model's rate and at the speech scorer's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples, DeferredDecoder, Pcm, StoredAudio, deferred_decoder
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder, repair
from streamer.audio.resample import Resampler

_SPARE_BYTES = 128 * 1024
"""Pending bytes above which unused memory is freed."""


InputChunk = tuple[Sequence[StoredAudio], Sequence[AudioSamples], int]
"""The same audio by channel, for the model's buffer and for the speech scorer, and the bytes of memory of the latter in
addition to the former. A tuple, which compiled code passes without an object."""


class InputPipeline(ABC):
    """Stores bytes, and converts them in steps."""

    low_watermark_bytes: int
    """Bytes needed for the next step."""

    @property
    @abstractmethod
    def pending_bytes(self) -> int:
        """Bytes that are not converted yet."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory for audio."""

    @property
    @abstractmethod
    def clamped(self) -> int:
        """Number of samples that were not finite or out of range."""

    @abstractmethod
    def append(self, data: bytes) -> bool:
        """Append bytes; return whether `take` has a step."""

    @abstractmethod
    def take(self, max_steps: int) -> InputChunk:
        """Convert the complete steps, at most `max_steps`."""

    @abstractmethod
    def drain(self) -> InputChunk:
        """Convert all whole frames, and the rest of the resamplers. Audio may follow; positions continue."""


def pipeline_for(
    format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
) -> tuple[InputPipeline, DeferredDecoder | None]:
    """Return the input pipeline of a stream, and the encoding of its stored audio; None for decoded.

    Rates in Hz; `speech_rate` is None if speech is not detected. `step` and `parts`: `parts` steps are `step` samples
    at `speech_rate` (otherwise the model's), so that a window or a piece never waits for another message.
    """
    encoding = kept_coding(format, model_rate, speech_rate, step, parts)
    if encoding is None:
        return ResamplingPipeline(format, model_rate, speech_rate, step, parts), None
    scored = deferred_decoder(format.encoding, format.sample_rate, speech_rate or model_rate)
    assert scored is not None
    return PassthroughPipeline(format, scored, step // parts), encoding


def kept_coding(
    format: AudioFormat, model_rate: int, speech_rate: int | None, step: int, parts: int = 1
) -> DeferredDecoder | None:
    """Return the encoding of a stream's stored audio, or None for decoded; see `pipeline_for`."""
    encoding = deferred_decoder(format.encoding, format.sample_rate, model_rate)
    scored = deferred_decoder(format.encoding, format.sample_rate, speech_rate or model_rate)
    return encoding if scored is not None and step % (parts * scored.multiple) == 0 else None


class PassthroughPipeline(InputPipeline):
    """An input pipeline without conversion, for encodings and rates that can be decoded later, many samples at once.

    `model` is the bytes since the last step; `speech` has whole steps with the context of their filter. Only floats are
    checked before, because they may not be finite.
    """

    def __init__(self, format: AudioFormat, speech: DeferredDecoder, step: int) -> None:
        """Create an input pipeline. `step`: samples, in the unit of `speech`."""
        self._format = format
        self._decoder = speech
        self._step = speech.size(step) * format.channels
        self._context_bytes = speech.context_bytes * format.channels
        self._is_float = format.encoding is Encoding.PCM_F32LE
        self._clamped = 0
        # starts with the context of the next step
        self._raw = bytearray(speech.silence(speech.context_before * format.channels))
        self._unread_from = len(self._raw)  # start of the bytes that were not emitted yet
        self.low_watermark_bytes = self._step + self._context_bytes - self._unread_from

    @property
    def pending_bytes(self) -> int:
        return len(self._raw) - self._unread_from

    @property
    def nbytes(self) -> int:
        return self._raw.__alloc__()

    @property
    def clamped(self) -> int:
        return self._clamped

    def append(self, data: bytes) -> bool:
        self._raw += data
        return len(self._raw) - self._unread_from >= self.low_watermark_bytes

    def take(self, max_steps: int) -> InputChunk:
        steps = (len(self._raw) - self._context_bytes) // self._step
        done = self._step * (steps if steps < max_steps else max_steps)
        return self._emit(done + self._context_bytes, done)

    def drain(self) -> InputChunk:
        whole = self.pending_bytes - self.pending_bytes % self._format.frame_bytes
        end, coding, channels = self._unread_from + whole, self._decoder, self._format.channels
        done = coding.size(coding.output_count(end // self._format.frame_bytes - coding.context_before)) * channels
        silence = coding.silence(
            (coding.context_before + coding.context_after) * channels
        )  # more than the missing context
        return self._emit(end, done, silence)

    def _emit(self, end: int, done: int, silence: bytes = b"") -> InputChunk:
        """Emit bytes. `end`: end of the emitted bytes; `done`: end of the bytes that no later step needs."""
        if self._is_float:
            self._repair(end)
        raw, around = self._raw, self._context_bytes
        speech = raw[:end]
        new = raw[self._unread_from : end] if around else speech
        if silence:
            speech = (speech + silence)[: done + around]
        del raw[:done]
        if len(raw) > _SPARE_BYTES:
            self._raw = _compact(raw)
        self._unread_from = end - done
        self.low_watermark_bytes = self._step + around - self._unread_from
        is_shared = new is speech
        if self._format.channels == 1:
            return (new,), (Pcm(self._decoder, speech),), 0 if is_shared else len(speech)
        models = self._separate(new)
        speeches = models if is_shared else self._separate(speech)
        return models, [Pcm(self._decoder, data) for data in speeches], 0 if is_shared else len(speech)

    def _repair(self, end: int) -> None:
        samples, clamped = repair(self._raw[self._unread_from : end], 4)
        if clamped:
            self._clamped += clamped
            self._raw[self._unread_from : end] = samples.astype("<f4").tobytes()

    def _separate(self, data: bytearray) -> list[bytes]:
        """Split whole frames by channel."""
        samples = np.frombuffer(data, np.uint8).reshape(-1, self._format.channels, self._format.encoding.sample_bytes)
        return [samples[:, channel].tobytes() for channel in range(self._format.channels)]


class ResamplingPipeline(InputPipeline):
    """An input pipeline that decodes and resamples.

    A message costs one append. The conversion waits until another step can be completed, because per-call costs
    dominate at 20 ms messages, and takes only the bytes that it needs.
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
        self._lag = slowest.min_delay if slowest else 0
        self._step = (step, parts, rate, speech_rate or model_rate)
        self._converted_frames = self._base = self._steps = 0
        self.low_watermark_bytes = self._bytes_until(1)

    @property
    def pending_bytes(self) -> int:
        return len(self._raw)

    @property
    def nbytes(self) -> int:
        return self._raw.__alloc__()

    @property
    def clamped(self) -> int:
        return self._decoder.clamped_samples

    def append(self, data: bytes) -> bool:
        self._raw += data
        return len(self._raw) >= self.low_watermark_bytes

    def take(self, max_steps: int) -> InputChunk:
        steps, count, more = 0, 0, self.low_watermark_bytes
        while steps < max_steps and more <= len(self._raw):
            steps, count = steps + 1, more
            more = self._bytes_until(steps + 1)
        model, speech = self._convert(count)
        self._steps += steps
        self.low_watermark_bytes = more - count
        return list(model), list(speech), speech.nbytes

    def drain(self) -> InputChunk:
        whole = len(self._raw) - len(self._raw) % self.format.frame_bytes
        model, speech = self._convert(whole)
        self._base, self._steps = self._converted_frames, 0
        self.low_watermark_bytes = self._bytes_until(1)
        if self._model:
            model = _concat(model, self._model.flush())
        speech = _concat(speech, self._speech.flush()) if self._speech else model
        return list(model), list(speech), speech.nbytes

    def _convert(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return float32 [channels, n] at the model's rate and at the speech scorer's."""
        data = self._raw[:count]
        del self._raw[:count]
        if len(self._raw) > _SPARE_BYTES:
            self._raw = _compact(self._raw)
        self._converted_frames += count // self.format.frame_bytes
        samples = self._decoder.push(data)
        model = self._model.push(samples) if self._model else samples
        return model, self._speech.push(samples) if self._speech else model

    def _bytes_until(self, steps: int) -> int:
        """Return the bytes to convert for this number of further steps."""
        step, parts, rate, speech_rate = self._step
        samples = (self._steps + steps) * step // parts + self._lag
        return (self._base - self._converted_frames - (-samples * rate // speech_rate)) * self.format.frame_bytes


def _compact(data: bytearray) -> bytearray:
    """Return the bytes in less memory if much of it is unused: bytes removed at the front stay allocated."""
    return bytearray(data) if data.__alloc__() > len(data) * 5 // 4 else data


def _concat(head: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((head, tail), axis=1) if tail.shape[1] else head
