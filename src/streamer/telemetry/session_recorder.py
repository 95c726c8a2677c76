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
    ErrorEvent,
    Event,
    Finished,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    WarningEvent,
)
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.observer import SessionInfo, SessionObserver, SessionView
from streamer.telemetry.playback import Playback, PlayedChunk


@dataclass(slots=True, eq=False)
class SegmentTimeline:
    """Timeline of one segment (or piece), from its first audio to the writing of its final.

    `start`, `end`: positions at the model's rate, `rate` in Hz. All other numbers are monotonic seconds, None before
    the event. The times of the model are those of the final's last call.
    """

    channel: int
    segment_id: int
    start: int
    rate: int
    audio_started_at: float
    """Arrival of its first audio."""
    busy_s: float
    """Busy seconds of the session at its start; after `endpointed_at`, busy seconds during the segment."""
    end: int = 0
    audio_ended_at: float | None = None
    """Arrival of its last audio."""
    endpointed_at: float | None = None
    """Time when its end was detected (segmented), or when it was cut (simple)."""
    queued_at: float | None = None
    inference_started_at: float | None = None
    """Start of the model's call, the end of the time in the queue."""
    inference_finished_at: float | None = None
    result_at: float | None = None
    written_at: float | None = None
    interims: int = 0
    speech: bool = False
    error_code: ErrorCode | None = None
    """Error in place of a result."""

    @property
    def length_s(self) -> float:
        return (self.end - self.start) / self.rate


class SessionProgress(NamedTuple):
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


class SessionSink:
    """Receives the timelines of one session, on the event loop. The base class does nothing."""

    def on_start(self, start: Start, now: float) -> str | None:
        """Implement `SessionObserver.on_start`."""

    def on_progress(self, beat: SessionProgress) -> None: ...

    def on_first_result(self, latency_s: float) -> None:
        """Handle the first event or result of a stream, `latency_s` after the arrival of its first audio."""

    def on_segment_start(self, timeline: SegmentTimeline) -> None:
        """Handle the start of a segment."""

    def on_interim(self, timeline: SegmentTimeline, now: float) -> None:
        """Handle an interim."""

    def on_segment_done(self, timeline: SegmentTimeline) -> None:
        """Handle the end of a segment: its result, or the error in its place, was given to the transport."""

    def on_segment_lost(self, timeline: SegmentTimeline, now: float) -> None:
        """Handle a segment whose session ended before its result was written."""

    def on_error(self, event: ErrorEvent) -> None: ...

    def on_warning(self, event: WarningEvent) -> None: ...

    def on_reading_paused(self, now: float) -> None: ...

    def on_frames_dropped(self, frames: int) -> None: ...

    def audio_out(self, played: PlayedChunk) -> None:
        """Handle audio out that was given to the transport."""

    def cleared(self, seconds: float) -> None:
        """Handle audio out that the client dropped."""

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None: ...


class SessionRecorder(SessionObserver):
    """Records the timelines of one session, and passes them to `sinks`."""

    def __init__(self, info: SessionInfo, view: SessionView, now: float, sinks: Sequence[SessionSink]) -> None:
        self.info = info
        self.started_at = now
        self._session_view = view
        self._sinks = sinks
        # Readers that override the frequent events.
        self._progress_sinks = [
            sink.on_progress for sink in sinks if type(sink).on_progress is not SessionSink.on_progress
        ]
        self._segment_start_sinks = [
            reader.on_segment_start
            for reader in sinks
            if type(reader).on_segment_start is not SessionSink.on_segment_start
        ]
        self._segment_done_sinks = [
            reader.on_segment_done
            for reader in sinks
            if type(reader).on_segment_done is not SessionSink.on_segment_done
        ]
        self._starts: deque[Start] = deque(maxlen=16)
        self._start: Start | None = None
        self._rate = 0
        self._segments: dict[int, int] = {}
        self._timelines: dict[tuple[int, int], SegmentTimeline] = {}
        self._awaiting_write: deque[tuple[Event, SegmentTimeline]] = deque()
        self._finals: dict[JobId, SegmentTimeline] = {}
        self._awaiting_first_result = True
        self._received = self._committed = 0
        self._counted_s = self._busy_s = 0.0
        self._playback: Playback | None = None

    # From the connection manager -------------------------------------------------------------------------

    def on_start(self, start: Start, now: float) -> str | None:
        self._starts.append(start)
        answers = [sink.on_start(start, now) for sink in self._sinks]
        return next((answer for answer in answers if answer is not None), None)

    def on_event(self, event: Event, now: float) -> None:  # noqa: PLR0912 (one per event)
        if isinstance(event, Ack):
            self._report_progress(event.received, event.committed)
        elif isinstance(event, Segment):
            self._check_first_result(event.start, now)
            if event.is_final:
                self._on_result(event)
            else:
                self._on_interim(event, now)
        elif isinstance(event, SpeechStarted):
            self._check_first_result(event.position, now)
            self._on_speech_started(event, now)
        elif isinstance(event, SpeechEnded):
            self._on_speech_ended(event, now)
        elif isinstance(event, Started):
            self._on_started(event)
        elif isinstance(event, ErrorEvent):
            self._on_result(event)
            for sink in self._sinks:
                sink.on_error(event)
        elif isinstance(event, WarningEvent):
            for sink in self._sinks:
                sink.on_warning(event)
        elif isinstance(event, Finished):
            self._report_progress(event.received, event.received)
        else:
            self._audio_event(event)

    def on_result_written(self, event: Event, now: float) -> None:
        if type(event) is AudioChunk:
            if self._playback is not None:
                chunk = self._playback.on_written(event, now)
                for reader in self._sinks:
                    reader.audio_out(chunk)
            return
        while self._awaiting_write:  # in order, except for frames that the outbox dropped
            queued_event, timeline = self._awaiting_write.popleft()
            if queued_event is event:
                timeline.written_at = now
                for on_segment in self._segment_done_sinks:
                    on_segment(timeline)
                return

    def on_job_submitted(self, job: Job, now: float) -> None:
        if job.kind is JobKind.INTERIM or not job.segment_id:  # the last audio of a stream is no segment
            return
        timeline = self._timelines.get((job.channel, job.segment_id))
        if timeline is None:
            timeline = self._start_timeline(job.channel, job.segment_id, job.start + job.overlap, now)
        if timeline.endpointed_at is None:
            self._end_audio(timeline, job.end, now)
        timeline.queued_at = now
        self._finals[job.id] = timeline

    def on_job_outcome(self, job: JobId, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Output) and outcome.partial:
            return
        if (timeline := self._finals.pop(job, None)) is not None:
            timeline.result_at = now

    def on_reading_paused(self, now: float) -> None:
        for sink in self._sinks:
            sink.on_reading_paused(now)

    def on_frames_dropped(self, frames: int, now: float) -> None:
        for sink in self._sinks:
            sink.on_frames_dropped(frames)

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        if self._start is not None and (rest_s := summary.received_s - self._counted_s) > 0:  # since the last ack
            received = self._received + round(rest_s * self._start.format.sample_rate)
            self._report_progress(received, self._committed)
        for timeline in (*self._timelines.values(), *(passage for _, passage in self._awaiting_write)):
            for sink in self._sinks:
                sink.on_segment_lost(timeline, now)
        self._timelines.clear()
        self._awaiting_write.clear()
        self._finals.clear()
        for sink in self._sinks:
            sink.on_close(summary, code, peer_disconnected=peer_disconnected, now=now)

    # From the engine ----------------------------------------------------------------------------

    def timeline_of(self, job: Job) -> SegmentTimeline | None:
        """Return the segment of a job (or interim) until its result is written."""
        return self._timelines.get((job.channel, job.segment_id))

    def batch_started(self, job: Job, now: float) -> None:
        if (timeline := self._finals.get(job.id)) is not None:
            timeline.inference_started_at = now

    def batch_finished(self, job: Job, now: float) -> None:
        if (timeline := self._finals.get(job.id)) is not None:
            timeline.inference_finished_at = now

    def _audio_event(self, event: Event) -> None:
        playback = self._playback
        if playback is None:
            return
        if isinstance(event, AudioStarted):
            playback.on_started(event)
        elif isinstance(event, Cleared):
            for reader in self._sinks:
                reader.cleared(playback.seconds(event.frames))

    # Inside -------------------------------------------------------------------------------------

    def _on_started(self, event: Started) -> None:
        if self._starts:
            self._start = self._starts.popleft()
        self._rate = event.model_sample_rate
        self._playback = Playback(event, self._session_view) if event.audio_out is not None else None
        self._segments.clear()
        self._awaiting_first_result = True
        self._received = self._committed = 0

    def _check_first_result(self, position: int, now: float) -> None:
        """Check whether an event or a result at `position` is the first of a stream."""
        if not self._awaiting_first_result:
            return
        self._awaiting_first_result = False
        if (started_at := self._session_view.arrival(position)) is not None:
            for sink in self._sinks:
                sink.on_first_result(now - started_at)

    def _on_speech_started(self, event: SpeechStarted, now: float) -> None:
        number = self._segments[event.channel] = self._segments.get(event.channel, 0) + 1
        timeline = self._start_timeline(event.channel, number, event.position, now)
        timeline.speech = True

    def _on_speech_ended(self, event: SpeechEnded, now: float) -> None:
        timeline = self._timelines.get((event.channel, self._segments.get(event.channel, 0)))
        if timeline is not None:
            self._end_audio(timeline, event.position, now)

    def _start_timeline(self, channel: int, segment_id: int, start: int, now: float) -> SegmentTimeline:
        started_at = self._session_view.arrival(start)
        timeline = SegmentTimeline(
            channel, segment_id, start, self._rate, now if started_at is None else started_at, self._session_view.busy_s
        )
        self._timelines[channel, segment_id] = timeline
        for on_segment in self._segment_start_sinks:
            on_segment(timeline)
        return timeline

    def _end_audio(self, timeline: SegmentTimeline, end: int, now: float) -> None:
        audio_ended_at = self._session_view.arrival(end)
        timeline.end, timeline.endpointed_at, timeline.audio_ended_at = (
            end,
            now,
            now if audio_ended_at is None else audio_ended_at,
        )
        timeline.busy_s = self._session_view.busy_s - timeline.busy_s
        if self._playback is not None and timeline.speech:
            self._playback.on_segment_ended(timeline.channel, timeline.segment_id, timeline.audio_ended_at)

    def _on_interim(self, event: Segment, now: float) -> None:
        timeline = self._timelines.get((event.channel, event.segment_id))
        if timeline is not None:
            timeline.interims += 1
            for sink in self._sinks:
                sink.on_interim(timeline, now)

    def _on_result(self, event: Segment | ErrorEvent) -> None:
        """Move the segment of a result to those that wait for the transport."""
        timeline = None
        if isinstance(event, Segment):
            timeline = self._timelines.get((event.channel, event.segment_id))
        else:  # an error has the range, not the segment
            for other in self._timelines.values():
                if (other.channel, other.start, other.end) == (event.channel, event.start, event.end):
                    timeline, other.error_code = other, event.code
        if timeline is not None:
            del self._timelines[timeline.channel, timeline.segment_id]
            self._awaiting_write.append((event, timeline))

    def _report_progress(self, received: int, committed: int) -> None:
        """Report progress. `received`, `committed`: frames of this stream at the client's rate."""
        if self._start is None:
            return
        form, view = self._start.format, self._session_view
        frames, committed_frames = received - self._received, committed - self._committed
        busy_s = view.busy_s
        beat = SessionProgress(
            audio_s=frames / form.sample_rate,
            audio_bytes=frames * form.frame_bytes,
            processed_s=committed_frames / form.sample_rate,
            busy_s=busy_s - self._busy_s,
            lag_s=(received - committed) / form.sample_rate,
            backlog_s=view.backlog_s,
            held_bytes=view.held_bytes,
        )
        self._received, self._committed, self._busy_s = received, committed, busy_s
        self._counted_s += beat.audio_s
        for on_progress in self._progress_sinks:
            on_progress(beat)
