"""Stored audio of one channel, addressed by its position in the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from streamer.audio.byte_rope import ByteRope
from streamer.audio.deferred_decoder import DeferredDecoder, StoredAudio
from streamer.audio.errors import BufferFull
from streamer.audio.format import Encoding
from streamer.audio.pcm import decode
from streamer.audio.polyphase import Polyphase

SAMPLE_BYTES = 4
"""Bytes of a decoded sample: float32."""
_NEAR = 64
"""Samples that are resampled without a request, if no bytes before them have to be stored then."""
MAX_RAW_BYTES = 1024 * 1024
"""Bytes above which they are resampled early if that makes them smaller."""


class Buffer(ABC):
    """Stores the samples [start, end) of a stream. Positions are absolute: samples since the start of the stream."""

    __slots__ = ("end", "start")

    start: int
    """Position of the oldest stored sample."""
    end: int
    """Position after the newest available sample."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of stored audio."""

    @abstractmethod
    def append(self, x: StoredAudio) -> None:
        """Append x. Raises BufferFull, and stores nothing, if that exceeds the limit."""

    @abstractmethod
    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the samples [first, last), which later calls do not change.

        Raises IndexError if they are not stored.
        """

    @abstractmethod
    def forget(self, before: int) -> None:
        """Free the samples before a position; no effect if they are freed already, all if it is past the end."""

    @abstractmethod
    def seal(self) -> None:
        """End the audio for now: samples that wait for following ones become available, as if silence followed."""


def buffer_for(coding: DeferredDecoder | None, max_samples: int, max_raw_bytes: int = MAX_RAW_BYTES) -> Buffer:
    """Return a buffer that stores encoded audio if a coding is given, otherwise decoded audio."""
    if coding is None:
        return SampleBuffer(max_samples)
    if coding.filter is None:
        return EncodedBuffer(coding.encoding, max_samples)
    return ResampledBuffer(coding.encoding, coding.filter, max_samples, max_raw_bytes)


class EncodedBuffer(Buffer):
    """A buffer of encoded audio: appends bytes, and decodes only requested ranges."""

    __slots__ = ("_encoding", "_max_samples", "_raw", "_sample_bytes")

    def __init__(self, encoding: Encoding, max_samples: int) -> None:
        self._encoding = encoding
        self._sample_bytes = encoding.sample_bytes
        self._max_samples = max_samples
        self._raw = ByteRope()
        self.start = self.end = 0

    @property
    def nbytes(self) -> int:
        return self._raw.nbytes

    def append(self, x: StoredAudio) -> None:
        assert not isinstance(x, np.ndarray)
        end = self.end + len(x) // self._sample_bytes
        if end - self.start > self._max_samples:
            raise BufferFull(f"buffer full: {end - self.start} samples, at most {self._max_samples}")
        self._raw.append(x)
        self.end = end

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the stored [{self.start}, {self.end})")
        piece = decode(self._encoding, self._raw.slice(first * self._sample_bytes, last * self._sample_bytes))
        piece.flags.writeable = False
        return piece

    def forget(self, before: int) -> None:
        self.start = max(self.start, min(before, self.end))
        self._raw.forget(self.start * self._sample_bytes)

    def seal(self) -> None:
        pass


class ResampledBuffer(Buffer):
    """A buffer of bytes at another rate: appends bytes, and decodes and resamples only requested ranges.

    A range is converted once, and its bytes are freed: the next interim of an utterance requests the whole last one
    again. If bytes need more memory than samples, many are resampled before a request.
    """

    __slots__ = (
        "_encoding",
        "_filter",
        "_floor",
        "_max_held_samples",
        "_max_raw",
        "_max_samples",
        "_raw",
        "_resampled",
        "_sample_bytes",
    )

    def __init__(
        self, encoding: Encoding, filter: Polyphase, max_samples: int, max_raw_bytes: int = MAX_RAW_BYTES
    ) -> None:
        self._encoding = encoding
        self._sample_bytes = encoding.sample_bytes
        self._filter = filter
        inputs = filter.inputs(max_samples) + filter.context_before + filter.context_after
        self._max_held_samples = inputs * self._sample_bytes
        self._max_samples = filter.output_count(inputs)
        is_larger = self._sample_bytes * filter.down > SAMPLE_BYTES * filter.up
        self._max_raw = max_raw_bytes if is_larger else self._max_held_samples
        self._raw = ByteRope()
        self._floor = 0  # position of the first byte that `start` needs
        self._resampled = SampleBuffer(self._max_samples)
        self.start = self.end = 0

    @property
    def nbytes(self) -> int:
        return self._raw.nbytes + self._resampled.nbytes

    def append(self, x: StoredAudio) -> None:
        assert not isinstance(x, np.ndarray)
        raw = self._raw
        if (total := raw.end + len(x) - self._floor) > self._max_held_samples:
            raise BufferFull(f"buffer full: {total} bytes, at most {self._max_held_samples}")
        raw.append(x)
        ready = self._filter.output_ready(raw.end // self._sample_bytes)
        self.end = max(self.end, ready)
        if raw.end - raw.start > self._max_raw:
            self._resample(self.start, ready)

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the stored [{self.start}, {self.end})")
        self._resample(first, last)
        return self._resampled.slice(first, last)

    def forget(self, before: int) -> None:
        before = min(before, self.end)
        if before <= self.start:
            return
        self.start = before
        if self._resampled.end <= before:
            self._resampled = SampleBuffer(self._max_samples, before)
        self._resampled.forget(before)
        self._floor = max(0, self._first_input(before) * self._sample_bytes)
        self._raw.forget(self._floor)

    def seal(self) -> None:
        self.end = self._filter.output_count(self._raw.end // self._sample_bytes)

    def _resample(self, first: int, last: int) -> None:
        """Resample [first, last) into `_resampled`, and free the bytes that are not needed any more."""
        done = self._resampled
        is_apart = first > done.end and done.end <= self.start
        if first < done.start or is_apart:
            done = self._resampled = SampleBuffer(
                self._max_samples, self.start if first - self.start <= _NEAR else first
            )
        if done.end < last:
            done.append(self._resample_range(done.end, last))
        if done.start <= self.start:
            self._raw.forget(self._first_input(done.end) * self._sample_bytes)

    def _resample_range(self, first: int, last: int) -> NDArray[np.float32]:
        low = max(0, self._first_input(first))
        high = -(-last // self._filter.up) * self._filter.down + self._filter.context_after
        inputs = self._raw.slice(low * self._sample_bytes, high * self._sample_bytes)
        return self._filter.convert_range(decode(self._encoding, inputs), low, first, last)

    def _first_input(self, output: int) -> int:
        """Return the first input sample that the filter needs for this output sample."""
        return self._filter.inputs(output) - self._filter.context_before


class SampleBuffer(Buffer):
    """A buffer of decoded samples, in pieces: an append copies them once, and they are never moved."""

    __slots__ = ("_chunks", "_max_samples")

    def __init__(self, max_samples: int, start: int = 0) -> None:
        self._max_samples = max_samples
        self._chunks = ByteRope(start * SAMPLE_BYTES)
        self.start = self.end = start

    @property
    def nbytes(self) -> int:
        return self._chunks.nbytes

    def append(self, x: StoredAudio) -> None:
        assert isinstance(x, np.ndarray)
        count = self.end + x.size - self.start
        if count > self._max_samples:
            raise BufferFull(f"buffer full: {count} samples, at most {self._max_samples}")
        self._chunks.append(x.tobytes())
        self.end += x.size

    def slice(self, first: int, last: int) -> NDArray[np.float32]:
        if not self.start <= first <= last <= self.end:
            raise IndexError(f"[{first}, {last}) is not within the stored [{self.start}, {self.end})")
        return np.frombuffer(self._chunks.slice(first * SAMPLE_BYTES, last * SAMPLE_BYTES), np.float32)

    def forget(self, before: int) -> None:
        self.start = max(self.start, min(before, self.end))
        self._chunks.forget(self.start * SAMPLE_BYTES)

    def seal(self) -> None:
        pass
