"""Audio that a stream answers with: takes the model's samples, gives the client encoded frames, bounded and paced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from sys import maxsize

import numpy as np
from numpy.typing import NDArray

from streamer.audio.encode import encode
from streamer.audio.format import AudioFormat
from streamer.audio.resample import Resampler
from streamer.errors import ErrorCode
from streamer.session.actions import Action, Emit, JobFailed, JobId, Outcome, Output
from streamer.session.events import Event
from streamer.session.jobs import PendingJob
from streamer.session.segmenter import AudioRange
from streamer.session.settings import AudioOutSettings

Floats = NDArray[np.float32]

_CHUNK_S = 0.1
"""Longest audio in one message."""
_MAX_CHUNK_BYTES = 16 * 1024
_WINDOW_S = 0.5
_MAX_WINDOW_BYTES = 64 * 1024
"""Audio in the outbox, which the transport has not taken yet. More stays here, where `clear` can drop it."""


class AudioOutput(ABC):
    """Audio of one stream on its way to the client. Methods append actions to `out`.

    Each job's audio arrives by `add` (parts) and `complete` (its last outcome), in any order of jobs; `close` follows
    in stream order. `release` emits what the client may have now; `sent` returns the credit of bytes that were written.
    """

    def __init__(self, format: AudioFormat, bounds: AudioOutSettings, max_bytes: int) -> None:
        """Create an output. `format`: of its messages. `max_bytes`: memory above which the model has to wait."""
        self.format = format
        self._bounds = bounds
        self._max_bytes = max_bytes
        frame, rate = format.frame_bytes, format.sample_rate
        self._chunk = max(1, min(round(_CHUNK_S * rate), _MAX_CHUNK_BYTES // frame))
        self._window = max(self._chunk * frame, min(round(_WINDOW_S * rate) * frame, _MAX_WINDOW_BYTES))
        self._unwritten = 0

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of memory."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Frames that were not emitted yet, of all channels' answers."""

    @property
    def covered(self) -> int:
        """Position of the input, in samples at the model's rate, up to which the client has its audio."""
        return maxsize

    def follow(self, event: Event, out: list[Action]) -> None:
        """Emit a result, or an event after it, behind its audio."""
        out.append(Emit(event))

    @property
    def is_full(self) -> bool:
        """Whether the model should wait, because the client has too much to take."""
        return self.unsent > self._bounds.max_unsent_s * self.format.sample_rate or self.nbytes > self._max_bytes

    @property
    def is_idle(self) -> bool:
        """Whether all audio so far was emitted."""
        return not self.unsent

    @property
    def deadline(self) -> float | None:
        """Time of the next `release`; None if none is needed."""
        return None

    @abstractmethod
    def add(self, pending: PendingJob, audio: bytes | memoryview) -> None:
        """Take a part of the audio of a job."""

    @abstractmethod
    def complete(self, pending: PendingJob, outcome: Outcome) -> Outcome:
        """Take the last outcome of a job; return the one to report, an error if its audio is wrong."""

    @abstractmethod
    def close(self, channel: int, job: JobId) -> None:
        """End a job: all earlier ones of this channel have ended."""

    def take_tail(self, end: int) -> AudioRange | None:
        """Return, once, the silence that follows the end of a stream, so that its last audio leaves the model.

        `end`: samples of the stream at the model's rate. Its segment id is 0, which no segment has. None for none.
        """
        return None

    @abstractmethod
    def finish(self, received: int, sample_rate: int) -> None:
        """End the stream after `received` frames at the client's `sample_rate`. Only the first call counts."""

    @abstractmethod
    def release(self, out: list[Action], now: float) -> None:
        """Emit the audio that may be sent now."""

    @abstractmethod
    def clear(self, jobs: JobId, out: list[Action], now: float) -> int:
        """Drop the audio that was not emitted; return its frames. `jobs`: number of jobs so far."""

    def hurry(self) -> None:  # noqa: B027 (nothing to do for an output that is not paced)
        """Send as fast as the client reads, because the server shuts down."""

    def sent(self, size: int) -> None:
        """Note that the transport has taken `size` bytes."""
        self._unwritten -= size

    @property
    def _may_emit(self) -> bool:
        return self._unwritten < self._window


class FrameQueue:
    """Encoded frames in the order in which they are sent."""

    __slots__ = ("_data", "_frame_bytes")

    def __init__(self, frame_bytes: int) -> None:
        self._data = bytearray()
        self._frame_bytes = frame_bytes

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._data) // self._frame_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._data.__alloc__()

    def put(self, data: bytes) -> None:
        self._data += data

    def take(self, frames: int) -> bytes:
        """Remove the next frames, at most `frames`, and return them."""
        data = bytes(self._data[: frames * self._frame_bytes])
        del self._data[: len(data)]
        return data

    def drop_last(self, frames: int) -> None:
        """Remove the last frames."""
        if frames > 0:
            del self._data[-frames * self._frame_bytes :]

    def clear(self) -> int:
        """Remove all frames; return their number."""
        frames = len(self)
        self._data = bytearray()
        return frames


class Voice:
    """One continuous line of audio: from the model's output rate to the client's, [channels, n]."""

    __slots__ = ("_resampler", "channels", "frames_in")

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self.channels = channels
        self._resampler = Resampler(rate_in, rate_out, channels)
        self.frames_in = 0

    def push(self, samples: Floats) -> Floats:
        """Take samples [channels, n]; return the resampled ones that are available."""
        self.frames_in += samples.shape[1]
        return self._resampler.push(samples)

    def finish(self) -> Floats:
        """Return the rest: all in all `frames_in` at the other rate, half a frame rounded up."""
        return self._resampler.flush()

    @property
    def held(self) -> int:
        """Frames at the client's rate that wait in the resampler."""
        return self._resampler.held_samples


def samples_of(audio: bytes | memoryview, channels: int) -> Floats:
    """Return the model's audio as [channels, n]."""
    return np.frombuffer(audio, np.float32).reshape(channels, -1)


def encoded(format: AudioFormat, samples: Floats) -> bytes:
    """Return samples [channels, n] as interleaved frames."""
    interleaved = samples[0] if len(samples) == 1 else samples.T.reshape(-1)
    return encode(format.encoding, interleaved)


def rounded(frames: int, rate_in: int, rate_out: int) -> int:
    """Return a position at another rate; half a frame rounds up."""
    return (2 * frames * rate_out + rate_in) // (2 * rate_in)


def wrong_audio(text: str) -> JobFailed:
    """Return the outcome of a job whose audio is wrong."""
    return JobFailed(ErrorCode.MODEL_ERROR, text)


def has_json(output: Output) -> bool:
    """Return whether a partial output is more than audio."""
    return bytes(output.value) != b""
