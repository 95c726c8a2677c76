"""Audio out of `simple`: one continuous stream, as many frames out as in, each where its input was."""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np

from streamer.audio.format import AudioFormat
from streamer.audio.seams import Crossfade
from streamer.session.actions import Action, Emit, JobId, JobKind, Outcome, Output
from streamer.session.audio_out import (
    AudioOutput,
    Floats,
    FrameQueue,
    Voice,
    encoded,
    rounded,
    samples_of,
    wrong_audio,
)
from streamer.session.events import AudioChunk, Event
from streamer.session.jobs import PendingJob
from streamer.session.segmenter import AudioRange
from streamer.session.settings import AudioOutSettings, ModelOutput

_EVENT_BYTES = 512
"""Memory of an event that waits, roughly."""


class _Piece(msgspec.Struct, frozen=True):
    """A piece that was answered. `samples`: None for silence."""

    audio_range: AudioRange
    samples: Floats | None


class _ChannelOutput:
    """One channel of the input: its output at the model's rate, without latency and seams."""

    def __init__(self, model: ModelOutput, rate_out: int, fade: Crossfade | None) -> None:
        self._voice = Voice(model.sample_rate, rate_out, model.channels)
        self._late = model.latency(model.sample_rate)
        self._fade = fade
        self._end = np.empty((model.channels, 0), np.float32)
        self._ready = np.empty((model.channels, 0), np.float32)

    @property
    def nbytes(self) -> int:
        return self._ready.nbytes + self._end.nbytes

    @property
    def frames(self) -> int:
        """Frames that are ready."""
        return self._ready.shape[1]

    def push(self, samples: Floats, overlap: int) -> None:
        """Take the output of the next piece. `overlap`: frames at its beginning that the last one had too."""
        if self._fade is not None:
            settled = self._end.shape[1] - overlap
            samples = np.concatenate((self._end[:, :settled], self._fade.join(self._end[:, settled:], samples)), axis=1)
            done = max(0, samples.shape[1] - self._fade.samples)
            samples, self._end = samples[:, :done], samples[:, done:]
        late = min(self._late, samples.shape[1])
        self._late -= late
        self._put(self._voice.push(samples[:, late:]))

    def finish(self) -> None:
        """Make the rest ready."""
        self._put(self._voice.push(self._end))
        self._end = self._end[:, :0]
        self._put(self._voice.finish())

    def take(self, frames: int) -> Floats:
        """Return the next frames, followed by silence if fewer are ready."""
        frames_out, self._ready = self._ready[:, :frames], self._ready[:, frames:].copy()
        missing = frames - frames_out.shape[1]
        return np.pad(frames_out, ((0, 0), (0, missing))) if missing else frames_out

    def _put(self, samples: Floats) -> None:
        if samples.shape[1]:
            self._ready = np.concatenate((self._ready, samples), axis=1)


class ContinuousOutput(AudioOutput):
    """Output of a stream in `simple` mode: all channels interleaved. A failed piece is silence of its length."""

    def __init__(
        self,
        format: AudioFormat,
        model: ModelOutput,
        rates: tuple[int, int],
        overlap: int,
        bounds: AudioOutSettings,
        max_bytes: int,
    ) -> None:
        """Create an output. `format`: of all channels. `rates`: of the client's audio and of the model's input.

        `overlap`: of pieces, in samples at the model's rate.
        """
        super().__init__(format, bounds, max_bytes)
        model_rate = rates[1]
        self._model = model
        self._model_rate = model_rate
        self._overlap = overlap
        fade = Crossfade(1000 * overlap / model_rate, model.sample_rate) if overlap else None
        lines = format.channels // model.channels
        self._lines = [_ChannelOutput(model, format.sample_rate, fade) for _ in range(lines)]
        self._parts: dict[JobId, list[bytes | memoryview]] = {}
        self._pieces: dict[JobId, _Piece] = {}
        self._waiting_bytes = 0
        self._queue = FrameQueue(format.frame_bytes)
        self._made = 0
        self._spare = _spare(format.sample_rate, *rates, model.sample_rate)
        self._events: deque[tuple[int, Event]] = deque()
        self._has_tail = self._has_ended = False

    @property
    def nbytes(self) -> int:
        audio = self._queue.nbytes + self._waiting_bytes + sum([line.nbytes for line in self._lines])
        return audio + len(self._events) * _EVENT_BYTES

    @property
    def unsent(self) -> int:
        return max(0, len(self._queue) - self._spare)

    @property
    def is_idle(self) -> bool:
        return not self.unsent and not self._events

    @property
    def covered(self) -> int:
        return (self._made - len(self._queue)) * self._model_rate // self.format.sample_rate

    def follow(self, event: Event, out: list[Action]) -> None:
        if self.is_idle:
            out.append(Emit(event))
        else:
            self._events.append((self._made - self._spare, event))

    def add(self, pending: PendingJob, audio: bytes | memoryview) -> None:
        self._parts.setdefault(pending.job, []).append(audio)
        self._waiting_bytes += len(audio)

    def complete(self, pending: PendingJob, outcome: Outcome) -> Outcome:
        parts, samples = self._parts.pop(pending.job, []), None
        self._waiting_bytes -= sum([len(part) for part in parts])
        if isinstance(outcome, Output):
            answered = [samples_of(part, self._model.channels) for part in (*parts, outcome.audio)]
            samples = np.concatenate(answered, axis=1) if parts else answered[0]
            expected = sum(self._lengths(pending.audio_range))
            if samples.shape[1] != expected:
                seconds = (pending.audio_range.end - pending.audio_range.start) / self._model_rate
                outcome = wrong_audio(
                    f"the model's audio: expected {expected} samples for a piece of {seconds:g} s, "
                    f"got {samples.shape[1]}"
                )
                samples = None
            else:
                self._waiting_bytes += samples.nbytes
        self._pieces[pending.job] = _Piece(pending.audio_range, samples)
        return outcome

    def close(self, channel: int, job: JobId) -> None:
        piece = self._pieces.pop(job)
        overlap, length = self._lengths(piece.audio_range)
        samples = piece.samples
        if samples is None:
            samples = np.zeros((self._model.channels, overlap + length), np.float32)
        else:
            self._waiting_bytes -= samples.nbytes
        self._lines[channel].push(samples, overlap)
        self._interleave(min([line.frames for line in self._lines]))

    def take_tail(self, end: int) -> AudioRange | None:
        if self._has_tail or not self._model.latency_ms:
            return None
        self._has_tail = True
        return AudioRange(JobKind.PIECE, 0, end, end + self._model.latency(self._model_rate))

    def finish(self, received: int, sample_rate: int) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._spare = 0
        for line in self._lines:
            line.finish()
        due = rounded(received, sample_rate, self.format.sample_rate)
        self._interleave(due - self._made)
        self._queue.drop_last(self._made - due)
        self._made = due
        self._events = deque((min(mark, due), event) for mark, event in self._events)

    def release(self, out: list[Action], now: float) -> None:
        self._release_events(out)
        while self._may_emit and (ready := self.unsent):
            position = self.covered
            data = self._queue.take(min(ready, self._chunk))
            self._unwritten += len(data)
            frames = len(data) // self.format.frame_bytes
            out.append(Emit(AudioChunk(0, 0, position, frames, data)))
            self._release_events(out)

    def clear(self, jobs: JobId, out: list[Action], now: float) -> int:
        dropped = self._queue.clear()
        self._release_events(out)
        return dropped

    def _release_events(self, out: list[Action]) -> None:
        """Emit the events whose audio was emitted."""
        emitted = self._made - len(self._queue)
        while self._events and self._events[0][0] <= emitted:
            out.append(Emit(self._events.popleft()[1]))

    def _interleave(self, frames: int) -> None:
        if frames > 0:
            rows = [line.take(frames) for line in self._lines]
            self._made += frames
            self._queue.put(encoded(self.format, rows[0] if len(rows) == 1 else np.concatenate(rows)))

    def _lengths(self, audio_range: AudioRange) -> tuple[int, int]:
        """Return the frames of the model's output for a piece: of its overlap, and of itself."""
        rate_in, rate_out = self._model_rate, self._model.sample_rate
        start = rounded(audio_range.start, rate_in, rate_out)
        before = rounded(audio_range.start - min(self._overlap, audio_range.start), rate_in, rate_out)
        return start - before, rounded(audio_range.end, rate_in, rate_out) - start


def _spare(frames: int, *rates: int) -> int:
    """Return the frames that are held back until the end, because several roundings may have made too many.

    `asked`: the client's rate; `rates`: those before it, each of which rounds by half a sample.
    """
    if all(rate == frames for rate in rates):
        return 0
    return math.ceil(sum([frames / (2 * rate) for rate in rates])) + 1
