"""Audio out of `segmented`: an answer to each segment, at the speed at which a listener hears it."""

from __future__ import annotations

from collections import deque

from streamer.audio.format import AudioFormat
from streamer.session.actions import Action, Emit, JobId, JobKind, Outcome, Output
from streamer.session.audio_out import AudioOutput, FrameQueue, Voice, encoded, samples_of, wrong_audio
from streamer.session.events import AudioChunk, AudioEnded, AudioResumed, AudioStarted
from streamer.session.jobs import PendingJob
from streamer.session.reordering import ReorderBuffer
from streamer.session.settings import AudioOutSettings, ModelOutput


class _Reply:
    """Audio of one job."""

    __slots__ = ("channel", "emitted", "is_closed", "is_cut", "is_started", "queue", "segment_id", "start", "voice")

    def __init__(self, pending: PendingJob, voice: Voice, frame_bytes: int) -> None:
        self.channel = pending.channel
        self.segment_id = pending.audio_range.segment_id
        self.start = pending.audio_range.start
        self.voice = voice
        self.queue = FrameQueue(frame_bytes)
        self.emitted = 0
        self.is_started = self.is_closed = self.is_cut = False

    @property
    def is_over(self) -> bool:
        """Whether no audio follows."""
        return self.is_closed and not len(self.queue)


class ReplyOutput(AudioOutput):
    """Output of a stream in `segmented` mode. Channels take turns; none gets more than `ahead_s` ahead of real time."""

    def __init__(
        self,
        format: AudioFormat,
        model: ModelOutput,
        model_rate: int,
        results: list[ReorderBuffer],
        bounds: AudioOutSettings,
        max_bytes: int,
        *,
        paced: bool,
    ) -> None:
        """Create an output. `format`: of one channel of the input. `results`: of each channel."""
        super().__init__(format, bounds, max_bytes)
        self._model = model
        self._model_rate = model_rate
        self._results = results
        self._ahead_s = bounds.ahead_s if paced else None
        self._open: dict[JobId, _Reply] = {}
        self._closed: list[deque[_Reply]] = [deque() for _ in results]
        self._heard_until = [0.0] * len(results)
        self._current: _Reply | None = None
        self._muted: JobId = 0

    @property
    def nbytes(self) -> int:
        return sum([reply.queue.nbytes for reply in self._replies()])

    @property
    def unsent(self) -> int:
        return sum([len(reply.queue) for reply in self._replies()])

    @property
    def is_idle(self) -> bool:
        return not any(self._closed) and not self._open

    @property
    def deadline(self) -> float | None:
        if not self._may_emit or self._ahead_s is None:
            return None
        times = [self._heard_until[reply.channel] for reply in map(self._next, range(len(self._results))) if reply]
        return min(times) - self._ahead_s if times else None

    def add(self, pending: PendingJob, audio: bytes | memoryview) -> None:
        if pending.audio_range.kind is JobKind.INTERIM or pending.job < self._muted or not len(audio):
            return
        reply = self._open.get(pending.job)
        if reply is None:
            voice = Voice(self._model.sample_rate, self.format.sample_rate, self._model.channels)
            reply = self._open[pending.job] = _Reply(pending, voice, self.format.frame_bytes)
        max_frames = 2 * self._bounds.max_unsent_s * self.format.sample_rate
        reply.is_cut = reply.is_cut or self.unsent > max_frames or self.nbytes > 2 * self._max_bytes
        if not reply.is_cut:
            reply.queue.put(encoded(self.format, reply.voice.push(samples_of(audio, self._model.channels))))

    def complete(self, pending: PendingJob, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Output):
            self.add(pending, outcome.audio)
        reply = self._open.get(pending.job)
        if reply is None:
            return outcome
        reply.queue.put(encoded(self.format, reply.voice.finish()))
        if reply.is_cut and isinstance(outcome, Output):
            max_s = self._bounds.max_unsent_s
            return wrong_audio(
                f"the model's audio is cut: expected at most {2 * max_s:g} s that the client has not taken"
            )
        return outcome

    def close(self, channel: int, job: JobId) -> None:
        reply = self._open.pop(job, None)
        if reply is not None:
            reply.is_closed = True
            if reply.is_started or len(reply.queue):
                self._closed[channel].append(reply)

    def finish(self, received: int, sample_rate: int) -> None:
        pass

    def hurry(self) -> None:
        self._ahead_s = None

    def release(self, out: list[Action], now: float) -> None:
        for replies in self._closed:
            while replies and replies[0].is_over:
                self._end(replies.popleft(), out)
        while self._may_emit and (reply := self._due(now)) is not None:
            self._emit(reply, out, now)
            if reply.is_over:
                self._closed[reply.channel].popleft()
                self._end(reply, out)

    def clear(self, jobs: JobId, out: list[Action], now: float) -> int:
        self._muted = jobs
        dropped = 0
        for reply in self._replies():
            dropped += reply.queue.clear() + (0 if reply.is_closed else reply.voice.held)
            if reply.is_started:
                self._end(reply, out)
        for replies in self._closed:
            replies.clear()
        self._open.clear()
        self._heard_until = [now] * len(self._results)
        return dropped

    def _replies(self) -> list[_Reply]:
        return [*self._open.values(), *(reply for replies in self._closed for reply in replies)]

    def _next(self, channel: int) -> _Reply | None:
        """Return the reply of a channel that is to be sent next, if some of it is here."""
        if self._closed[channel]:
            return self._closed[channel][0]
        first = self._results[channel].first
        reply = self._open.get(first) if first is not None else None
        return reply if reply is not None and len(reply.queue) else None

    def _due(self, now: float) -> _Reply | None:
        """Return the reply to send now: of the channel whose listener has the least."""
        replies = [reply for reply in map(self._next, range(len(self._results))) if reply is not None]
        if not replies:
            return None
        reply = min(replies, key=lambda reply: self._heard_until[reply.channel])
        is_due = self._ahead_s is None or now >= self._heard_until[reply.channel] - self._ahead_s
        return reply if is_due else None

    def _emit(self, reply: _Reply, out: list[Action], now: float) -> None:
        if not reply.is_started:
            reply.is_started = True
            out.append(Emit(AudioStarted(reply.channel, reply.segment_id, reply.start)))
        elif self._current is not reply:
            out.append(Emit(AudioResumed(reply.channel, reply.segment_id)))
        self._current = reply
        data = reply.queue.take(self._chunk)
        self._unwritten += len(data)
        frames = len(data) // self.format.frame_bytes
        position = reply.start + reply.emitted * self._model_rate // self.format.sample_rate
        out.append(Emit(AudioChunk(reply.channel, reply.segment_id, position, frames, data)))
        reply.emitted += frames
        until = self._heard_until[reply.channel]
        self._heard_until[reply.channel] = max(until, now) + frames / self.format.sample_rate

    def _end(self, reply: _Reply, out: list[Action]) -> None:
        out.append(Emit(AudioEnded(reply.channel, reply.segment_id, reply.emitted)))
