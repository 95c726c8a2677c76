"""Counts events in the metrics; the only caller of the instruments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamer.connection.hosted_model import HostedModel, ModelState
from streamer.errors import ErrorCode
from streamer.inference.contract import EngineDepth
from streamer.inference.observer import CallOutcome, DropCause, EngineObserver, LossCause
from streamer.session.actions import Job
from streamer.session.events import ErrorEvent, Mode, WarningEvent
from streamer.session.messages import Start
from streamer.session.summary import Summary
from streamer.telemetry.metrics import (
    ACCEPTED,
    AUTH_FAILURES,
    GONE,
    PROTOCOL_ERRORS,
    REFUSALS,
    STOPPED,
    Metrics,
    PipelineStage,
    WorkerState,
)
from streamer.telemetry.observer import Observer, SessionInfo, Subsystem
from streamer.telemetry.playback import PlayedChunk
from streamer.telemetry.session_recorder import SegmentTimeline, SessionProgress, SessionSink

TraceOf = Callable[[SegmentTimeline], str | None]
"""Returns the trace id of a traced segment, for an exemplar."""


def untraced(timeline: SegmentTimeline) -> None:
    """Return None: no traces, no exemplars."""


class _StageMetrics:
    """The three histograms of one stage."""

    def __init__(self, metrics: Metrics, stage: PipelineStage) -> None:
        self._rtf = metrics.rtf.child(stage)
        self._media = metrics.media_duration.child(stage)
        self._processing = metrics.processing_duration.child(stage)

    def observe(self, audio_s: float, took_s: float) -> None:
        if audio_s > 0:
            self._rtf.observe(took_s / audio_s)
            self._media.observe(audio_s)
            self._processing.observe(took_s)


class MetricsObserver(Observer, EngineObserver):
    """Counts the events of a server. Instruments are looked up once, and handed to the sessions."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._decoding = _StageMetrics(metrics, PipelineStage.AUDIO_DECODING)
        self._vad = _StageMetrics(metrics, PipelineStage.VAD_PROCESSING)
        self._inference = _StageMetrics(metrics, PipelineStage.MODEL_INFERENCE)
        self._calls = {outcome: metrics.inference.child(metrics.model, outcome) for outcome in CallOutcome}
        self._queue_wait = metrics.queue_wait.child()
        self._batch_size = metrics.batch_size.child()

    def watch(
        self,
        *,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        depth: Callable[[], EngineDepth],
        load: Callable[[], float],
    ) -> None:
        """Set the sources of gauges, which are read at each scrape."""
        metrics = self._metrics
        total_load = metrics.load.child()
        is_ready, is_draining = metrics.ready.child(), metrics.draining.child()

        def refresh() -> None:
            is_ready.set(ready())
            is_draining.set(draining())
            total_load.set(load())

        metrics.instruments.refresh.append(refresh)
        self._watch_depth(depth)

    def watch_model(self, model: HostedModel) -> None:
        """Set the sources of the gauges of one of several models."""
        metrics = self._metrics
        states = {state: metrics.model_state.child(state) for state in ModelState}
        refused = metrics.model_refused.child()

        def refresh() -> None:
            refused.value = float(model.refused)
            for state, gauge in states.items():
                gauge.set(state is model.state)

        metrics.instruments.refresh.append(refresh)
        self._watch_depth(lambda: model.depth)

    def _watch_depth(self, depth: Callable[[], EngineDepth]) -> None:
        metrics = self._metrics
        pending = metrics.pending.child()
        workers = {state: metrics.workers.child(state) for state in WorkerState}

        def refresh() -> None:
            now = depth()
            pending.set(now.pending_items)
            workers[WorkerState.IDLE].set(now.workers_idle)
            workers[WorkerState.BUSY].set(now.workers_busy)
            workers[WorkerState.DOWN].set(now.workers_down)

        metrics.instruments.refresh.append(refresh)

    # Sessions -----------------------------------------------------------------------------------

    def session_sink(self, info: SessionInfo, now: float, trace_of: TraceOf = untraced) -> SessionSink:
        """Return the counter of one session."""
        self._metrics.handshakes.child(info.transport, ACCEPTED).add()
        return _SessionMetrics(self._metrics, self._decoding, info, now, trace_of)

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        self._metrics.handshakes.child(transport, code).add()
        if code in AUTH_FAILURES:
            self._metrics.auth_failures.child(code).add()
        elif code in REFUSALS:
            self._metrics.admission_rejected.child(code).add()

    def on_batch_scored(self, audio_s: float, took_s: float) -> None:
        self._vad.observe(audio_s, took_s)

    def unexpected_error(self, where: Subsystem, error: BaseException) -> None:
        self._metrics.task_failures.child(where).add()

    # The engine ---------------------------------------------------------------------------------

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> None:
        self._batch_size.observe(len(jobs))
        for wait_s in waits:
            self._queue_wait.observe(wait_s)

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome) -> None:
        self._calls[outcome].observe(seconds)
        self._inference.observe(sum([job.seconds for job in jobs]), seconds)

    def job_failed(self, job: Job, code: str) -> None:
        self._metrics.job_failures.child(code).add()

    def interim_dropped(self, job: Job, cause: DropCause) -> None:
        self._metrics.interims_dropped.child(cause).add()

    def worker_lost(self, worker: int, cause: LossCause) -> None:
        self._metrics.worker_restarts.child(cause).add()


class _SessionMetrics(SessionSink):
    """Counts one session, with its instruments looked up once."""

    def __init__(
        self, metrics: Metrics, decoding: _StageMetrics, info: SessionInfo, now: float, trace_of: TraceOf
    ) -> None:
        self._metrics = metrics
        self._decoding = decoding
        self._info = info
        self._born = now
        self._trace_of = trace_of
        self._audio_s = metrics.audio_received_seconds.child()
        self._audio_bytes = metrics.audio_received_bytes.child()
        self._processed_s = metrics.audio_processed_seconds.child()
        self._lead = metrics.audio_lead.child()
        self._lag = metrics.result_lag.child()
        self._buffered = metrics.audio_buffered.child()
        self._final_latency = metrics.final_latency.child()
        self._endpoint_delay = metrics.endpoint_delay.child()
        self._active = metrics.sessions_active.child(info.transport, info.mode)
        self._active.add()
        self._counted = False
        self._held_bytes = 0

    def on_start(self, start: Start, now: float) -> str | None:
        mode = start.mode or self._info.mode
        self._active.add(-1)
        self._active = self._metrics.sessions_active.child(self._info.transport, mode)
        self._active.add()
        self._count(mode)
        return None

    def _count(self, mode: Mode) -> None:
        """Count the session once, in the mode of its first start: a gRPC call has both modes."""
        if not self._counted:
            self._counted = True
            self._metrics.sessions_started.child(self._info.transport, mode).add()

    def on_progress(self, beat: SessionProgress) -> None:
        self._audio_s.add(beat.audio_s)
        self._audio_bytes.add(beat.audio_bytes)
        self._processed_s.add(beat.processed_s)
        self._lead.observe(beat.backlog_s)
        self._lag.observe(beat.lag_s)
        self._buffered.add(beat.held_bytes - self._held_bytes)
        self._held_bytes = beat.held_bytes
        self._decoding.observe(beat.audio_s, beat.busy_s)

    def on_first_result(self, latency_s: float) -> None:
        self._metrics.first_result_latency.child().observe(latency_s)

    def on_interim(self, timeline: SegmentTimeline, now: float) -> None:
        if timeline.interims == 1:
            self._metrics.first_interim_latency.child().observe(
                now - timeline.audio_started_at, self._trace_of(timeline)
            )

    def on_segment_done(self, timeline: SegmentTimeline) -> None:
        if timeline.audio_ended_at is None or timeline.written_at is None or timeline.endpointed_at is None:
            return
        trace_id = self._trace_of(timeline)
        self._final_latency.observe(timeline.written_at - timeline.audio_ended_at, trace_id)
        if timeline.speech:
            self._endpoint_delay.observe(timeline.endpointed_at - timeline.audio_ended_at, trace_id)

    def on_error(self, event: ErrorEvent) -> None:
        if event.code in PROTOCOL_ERRORS:
            self._metrics.protocol_errors.child(event.code).add()

    def on_warning(self, event: WarningEvent) -> None:
        self._metrics.warnings.child(event.code).add()

    def on_reading_paused(self, now: float) -> None:
        self._metrics.reading_paused.child().add()

    def on_frames_dropped(self, frames: int) -> None:
        self._metrics.interims_unread.child().add(frames)

    def audio_out(self, played: PlayedChunk) -> None:
        self._metrics.audio_out_seconds.child().add(played.seconds)
        if played.delay_s is not None:
            self._metrics.audio_out_delay.child().observe(played.delay_s)
        if played.gap_s:
            self._metrics.audio_out_gap_seconds.child().add(played.gap_s)

    def cleared(self, seconds: float) -> None:
        self._metrics.audio_out_cleared_seconds.child().add(seconds)

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        reason = code or (GONE if peer_disconnected else STOPPED)
        self._count(self._info.mode)
        self._active.add(-1)
        self._buffered.add(-self._held_bytes)
        self._metrics.sessions_closed.child(self._info.transport, reason).add()
        self._metrics.session_duration.child().observe(now - self._born)
