"""The timelines of sessions and segments, derived once for metrics, traces and logs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobId, JobKind, Outcome, Output
from streamer.session.events import (
    Ack,
    AudioChunk,
    AudioStarted,
    Cleared,
    Event,
    Failed,
    Finished,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    Warned,
)
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.observer import SessionInfo, SessionObserver, SessionView
from streamer.telemetry.playback import Heard, Playback


@dataclass(slots=True, eq=False)
class Passage:
    """Timeline of one segment (or piece), from its first audio to the writing of its final.

    `start`, `end`: positions at the model's rate, `rate` in Hz. All other numbers are monotonic seconds, None before
    the event. The times of the model are those of the final's last call.
    """

    channel: int
    segment_id: int
    start: int
    rate: int
    began: float
    """Arrival of its first audio."""
    busy_s: float
    """Busy seconds of the session at its start; after `ended`, busy seconds during the segment."""
    end: int = 0
    heard: float | None = None
    """Arrival of its last audio."""
    ended: float | None = None
    """Time when its end was detected (segmented), or when it was cut (simple)."""
    asked: float | None = None
    started: float | None = None
    """Start of the model's call, the end of the time in the queue."""
    finished: float | None = None
    answered: float | None = None
    written: float | None = None
    interims: int = 0
    speech: bool = False
    code: ErrorCode | None = None
    """Error in place of a result."""

    @property
    def length_s(self) -> float:
        return (self.end - self.start) / self.rate


class Heartbeat(NamedTuple):
    """Progress of a session since the last heartbeat: each half second of audio, and once at its end.

    `lag_s`: received audio without a result. `backlog_s`: unprocessed audio. `held_bytes`: memory for audio.
    """

    audio_s: float
    audio_bytes: int
    processed_s: float
    busy_s: float
    lag_s: float
    backlog_s: float
    held_bytes: int


class Reader:
    """Receives the timelines of one session, on the event loop. The base class does nothing."""

    def starting(self, start: Start, now: float) -> str | None:
        """Implement `SessionObserver.starting`."""

    def heartbeat(self, beat: Heartbeat) -> None: ...

    def first_result(self, latency_s: float) -> None:
        """Handle the first event or result of a stream, `latency_s` after the arrival of its first audio."""

    def opened(self, passage: Passage) -> None:
        """Handle the start of a segment."""

    def interim(self, passage: Passage, now: float) -> None:
        """Handle an interim."""

    def done(self, passage: Passage) -> None:
        """Handle the end of a segment: its result, or the error in its place, was given to the transport."""

    def lost(self, passage: Passage, now: float) -> None:
        """Handle a segment whose session ended before its result was written."""

    def failed(self, event: Failed) -> None: ...

    def warned(self, event: Warned) -> None: ...

    def held(self, now: float) -> None: ...

    def dropped(self, frames: int) -> None: ...

    def audio_out(self, heard: Heard) -> None:
        """Handle audio out that was given to the transport."""

    def cleared(self, seconds: float) -> None:
        """Handle audio out that the client dropped."""

    def closed(self, summary: Summary, code: ErrorCode | None, *, gone: bool, now: float) -> None: ...


class Chronicle(SessionObserver):
    """Records the timelines of one session, and passes them to `readers`."""

    def __init__(self, info: SessionInfo, view: SessionView, now: float, readers: Sequence[Reader]) -> None:
        self.info = info
        self.born = now
        self._view = view
        self._readers = readers
        # Readers that override the frequent events.
        self._beats = [reader.heartbeat for reader in readers if type(reader).heartbeat is not Reader.heartbeat]
        self._opens = [reader.opened for reader in readers if type(reader).opened is not Reader.opened]
        self._dones = [reader.done for reader in readers if type(reader).done is not Reader.done]
        self._starts: deque[Start] = deque(maxlen=16)
        self._start: Start | None = None
        self._rate = 0
        self._segments: dict[int, int] = {}
        self._open: dict[tuple[int, int], Passage] = {}
        self._leaving: deque[tuple[Event, Passage]] = deque()
        self._finals: dict[JobId, Passage] = {}
        self._quiet = True
        self._received = self._committed = 0
        self._counted_s = self._busy_s = 0.0
        self._playback: Playback | None = None

    # From the conductor -------------------------------------------------------------------------

    def starting(self, start: Start, now: float) -> str | None:
        self._starts.append(start)
        answers = [reader.starting(start, now) for reader in self._readers]
        return next((answer for answer in answers if answer is not None), None)

    def emitted(self, event: Event, now: float) -> None:  # noqa: PLR0912 (one per event)
        if isinstance(event, Ack):
            self._beat(event.received, event.committed)
        elif isinstance(event, Segment):
            self._first(event.start, now)
            if event.is_final:
                self._leave(event)
            else:
                self._interim(event, now)
        elif isinstance(event, SpeechStarted):
            self._first(event.position, now)
            self._speech_started(event, now)
        elif isinstance(event, SpeechEnded):
            self._speech_ended(event, now)
        elif isinstance(event, Started):
            self._started(event)
        elif isinstance(event, Failed):
            self._leave(event)
            for reader in self._readers:
                reader.failed(event)
        elif isinstance(event, Warned):
            for reader in self._readers:
                reader.warned(event)
        elif isinstance(event, Finished):
            self._beat(event.received, event.received)
        else:
            self._audio_event(event)

    def written(self, event: Event, now: float) -> None:
        if type(event) is AudioChunk:
            if self._playback is not None:
                heard = self._playback.written(event, now)
                for reader in self._readers:
                    reader.audio_out(heard)
            return
        while self._leaving:  # in order, except for frames that the outbox dropped
            left, passage = self._leaving.popleft()
            if left is event:
                passage.written = now
                for tell in self._dones:
                    tell(passage)
                return

    def asked(self, job: Job, now: float) -> None:
        if job.kind is JobKind.INTERIM or not job.segment_id:  # the last audio of a stream is no segment
            return
        passage = self._open.get((job.channel, job.segment_id))
        if passage is None:
            passage = self._opened(job.channel, job.segment_id, job.start + job.overlap, now)
        if passage.ended is None:
            self._ended(passage, job.end, now)
        passage.asked = now
        self._finals[job.id] = passage

    def answered(self, job: JobId, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Output) and outcome.partial:
            return
        if (passage := self._finals.pop(job, None)) is not None:
            passage.answered = now

    def held(self, now: float) -> None:
        for reader in self._readers:
            reader.held(now)

    def dropped(self, frames: int, now: float) -> None:
        for reader in self._readers:
            reader.dropped(frames)

    def closed(self, summary: Summary, code: ErrorCode | None, *, gone: bool, now: float) -> None:
        if self._start is not None and (rest_s := summary.received_s - self._counted_s) > 0:  # since the last ack
            received = self._received + round(rest_s * self._start.format.sample_rate)
            self._beat(received, self._committed)
        for passage in (*self._open.values(), *(passage for _, passage in self._leaving)):
            for reader in self._readers:
                reader.lost(passage, now)
        self._open.clear()
        self._leaving.clear()
        self._finals.clear()
        for reader in self._readers:
            reader.closed(summary, code, gone=gone, now=now)

    # From the engine ----------------------------------------------------------------------------

    def passage(self, job: Job) -> Passage | None:
        """Return the segment of a job (or interim) until its result is written."""
        return self._open.get((job.channel, job.segment_id))

    def batch_started(self, job: Job, now: float) -> None:
        if (passage := self._finals.get(job.id)) is not None:
            passage.started = now

    def batch_finished(self, job: Job, now: float) -> None:
        if (passage := self._finals.get(job.id)) is not None:
            passage.finished = now

    def _audio_event(self, event: Event) -> None:
        playback = self._playback
        if playback is None:
            return
        if isinstance(event, AudioStarted):
            playback.started(event)
        elif isinstance(event, Cleared):
            for reader in self._readers:
                reader.cleared(playback.seconds(event.frames))

    # Inside -------------------------------------------------------------------------------------

    def _started(self, event: Started) -> None:
        if self._starts:
            self._start = self._starts.popleft()
        self._rate = event.model_sample_rate
        self._playback = Playback(event, self._view) if event.audio_out is not None else None
        self._segments.clear()
        self._quiet = True
        self._received = self._committed = 0

    def _first(self, position: int, now: float) -> None:
        """Check whether an event or a result at `position` is the first of a stream."""
        if not self._quiet:
            return
        self._quiet = False
        if (began := self._view.arrival(position)) is not None:
            for reader in self._readers:
                reader.first_result(now - began)

    def _speech_started(self, event: SpeechStarted, now: float) -> None:
        number = self._segments[event.channel] = self._segments.get(event.channel, 0) + 1
        passage = self._opened(event.channel, number, event.position, now)
        passage.speech = True

    def _speech_ended(self, event: SpeechEnded, now: float) -> None:
        passage = self._open.get((event.channel, self._segments.get(event.channel, 0)))
        if passage is not None:
            self._ended(passage, event.position, now)

    def _opened(self, channel: int, segment_id: int, start: int, now: float) -> Passage:
        began = self._view.arrival(start)
        passage = Passage(channel, segment_id, start, self._rate, now if began is None else began, self._view.busy_s)
        self._open[channel, segment_id] = passage
        for tell in self._opens:
            tell(passage)
        return passage

    def _ended(self, passage: Passage, end: int, now: float) -> None:
        heard = self._view.arrival(end)
        passage.end, passage.ended, passage.heard = end, now, now if heard is None else heard
        passage.busy_s = self._view.busy_s - passage.busy_s
        if self._playback is not None and passage.speech:
            self._playback.segment_ended(passage.channel, passage.segment_id, passage.heard)

    def _interim(self, event: Segment, now: float) -> None:
        passage = self._open.get((event.channel, event.segment_id))
        if passage is not None:
            passage.interims += 1
            for reader in self._readers:
                reader.interim(passage, now)

    def _leave(self, event: Segment | Failed) -> None:
        """Move the segment of a result to those that wait for the transport."""
        passage = None
        if isinstance(event, Segment):
            passage = self._open.get((event.channel, event.segment_id))
        else:  # an error has the range, not the segment
            for other in self._open.values():
                if (other.channel, other.start, other.end) == (event.channel, event.start, event.end):
                    passage, other.code = other, event.code
        if passage is not None:
            del self._open[passage.channel, passage.segment_id]
            self._leaving.append((event, passage))

    def _beat(self, received: int, committed: int) -> None:
        """Report progress. `received`, `committed`: frames of this stream at the client's rate."""
        if self._start is None:
            return
        form, view = self._start.format, self._view
        frames, done = received - self._received, committed - self._committed
        busy_s = view.busy_s
        beat = Heartbeat(
            audio_s=frames / form.sample_rate,
            audio_bytes=frames * form.frame_bytes,
            processed_s=done / form.sample_rate,
            busy_s=busy_s - self._busy_s,
            lag_s=(received - committed) / form.sample_rate,
            backlog_s=view.backlog_s,
            held_bytes=view.held_bytes,
        )
        self._received, self._committed, self._busy_s = received, committed, busy_s
        self._counted_s += beat.audio_s
        for hear in self._beats:
            hear(beat)
