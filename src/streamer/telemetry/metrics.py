"""Every metric of a server: name, meaning, unit and labels. No other module names a metric."""

from __future__ import annotations

import platform
from enum import StrEnum

from streamer.connection.hosted_model import ModelState
from streamer.errors import ErrorCode
from streamer.inference.observer import CallOutcome, DropCause, LossCause
from streamer.session.events import Mode, WarningCode
from streamer.telemetry.instruments import Counter, Family, Gauge, Histogram, Instruments
from streamer.telemetry.observer import Subsystem

PREFIX = "streamer_"

TRANSPORTS = ("websocket", "grpc", "http", "tcp", "memory")
MODES = tuple(Mode)
CODES = tuple(ErrorCode)
ACCEPTED = "accepted"
STOPPED, GONE = "stopped", "gone"
"""Reasons of a session's end without an error: stopped by the client, or its client disconnected."""

REFUSALS = (ErrorCode.OVERLOADED, ErrorCode.DRAINING, ErrorCode.RATE_LIMITED)
AUTH_FAILURES = (
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.TOKEN_REPLAYED,
    ErrorCode.FORBIDDEN,
    ErrorCode.FORBIDDEN_ORIGIN,
)
PROTOCOL_ERRORS = (
    ErrorCode.BAD_REQUEST,
    ErrorCode.BAD_STATE,
    ErrorCode.INVALID_FORMAT,
    ErrorCode.INVALID_AUDIO,
    ErrorCode.WRONG_FRAME_TYPE,
    ErrorCode.INVALID_UTF8,
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.MESSAGE_TOO_BIG,
)

RTF = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2, 4, 6, 8, 10, 15)
LATENCY = (
    *(
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.65,
        0.7,
        0.75,
        0.8,
        0.9,
        1,
    ),  # 0.6 is the redemption time
    *(1.25, 1.5, 2, 3, 5, 10, 30, 60),
)
WAIT = (0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LENGTH = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14_400)
MEDIA = (0.03, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120)
WORK = (0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SIZE = (1, 2, 4, 8, 16, 32, 64, 128)


class PipelineStage(StrEnum):
    """Stages of processing audio."""

    AUDIO_DECODING = "audio_decoding"
    VAD_PROCESSING = "vad_processing"
    MODEL_INFERENCE = "model_inference"


class WorkerState(StrEnum):
    """State of a model worker."""

    IDLE = "idle"
    BUSY = "busy"
    DOWN = "down"


class Signal(StrEnum):
    """Kind of telemetry that may be dropped."""

    SPANS = "spans"
    LOGS = "logs"


class Metrics:
    """All metric families of one server process.

    `model` and `version` are the server's own values, never a client's.
    """

    def __init__(self, model: str, version: str) -> None:
        self.instruments = make = Instruments(PREFIX)
        self.model = model
        self._sessions(make)
        self._audio(make)
        self._latencies(make)
        self._inference(make)
        before = set(make.families)
        self._tasks(make)
        self._life(make, version)
        self.of_server = frozenset(make.families) - before - {self.build_info.name}
        """Names of the families that are the server's, also with several models."""
        counted_without_model = (self.handshakes, self.auth_failures, self.rtf, self.media_duration)
        self.of_both = frozenset(family.name for family in (*counted_without_model, self.processing_duration))
        """Names of the families that count refusals and speech detection without a model, the rest by model."""

    def _sessions(self, make: Instruments) -> None:
        self.sessions_started = make.counter("sessions_started", "Sessions started.", transport=TRANSPORTS, mode=MODES)
        self.sessions_closed = make.counter(
            "sessions_closed",
            "Sessions closed, by reason: stopped by the client, gone (disconnected), or an error code.",
            transport=TRANSPORTS,
            reason=(STOPPED, GONE, *CODES),
        )
        self.sessions_active = make.gauge("sessions_active", "Open sessions.", transport=TRANSPORTS, mode=MODES)
        self.session_duration = make.histogram("session_duration_seconds", "Duration of a session.", LENGTH)
        self.handshakes = make.counter(
            "handshakes", "Connection attempts, by outcome.", transport=TRANSPORTS, outcome=(ACCEPTED, *CODES)
        )
        self.auth_failures = make.counter(
            "auth_failures", "Connection attempts refused by authentication.", reason=AUTH_FAILURES
        )
        self.protocol_errors = make.counter(
            "protocol_errors", "Messages that violate the protocol.", code=PROTOCOL_ERRORS
        )
        self.warnings = make.counter("warnings", "Warnings sent to clients.", code=tuple(WarningCode))
        self.reading_paused = make.counter(
            "clients_held", "Times the server paused reading from a client that was too far ahead."
        )

    def _audio(self, make: Instruments) -> None:
        self.audio_received_seconds = make.counter("audio_received_seconds", "Seconds of audio received.")
        self.audio_received_bytes = make.counter("audio_received_bytes", "Bytes of audio received.")
        self.audio_processed_seconds = make.counter(
            "audio_processed_seconds", "Seconds of audio that need no more processing."
        )
        self.audio_lead = make.histogram(
            "audio_lead_seconds", "Unprocessed audio of a session, observed each half second of audio.", LATENCY
        )
        self.audio_buffered = make.gauge(
            "audio_buffered_bytes", "Bytes of memory for audio: pending, in open speech, and in jobs of the model."
        )
        self.audio_out_seconds = make.counter("audio_out_seconds", "Seconds of audio sent to clients.")
        self.audio_out_gap_seconds = make.counter(
            "audio_out_gap_seconds",
            "Seconds of silence that late audio caused for a listener with a jitter buffer of 40 ms.",
        )
        self.audio_out_cleared_seconds = make.counter(
            "audio_out_cleared_seconds", "Seconds of unsent audio that clients cleared."
        )
        self.rtf = make.histogram(
            "rtf",
            "Real-time factor: processing time divided by the duration of the audio.",
            RTF,
            stage=tuple(PipelineStage),
        )
        self.media_duration = make.histogram(
            "media_duration_seconds", "Duration of the audio of one processing step.", MEDIA, stage=tuple(PipelineStage)
        )
        self.processing_duration = make.histogram(
            "processing_duration_seconds", "Processing time of one processing step.", WORK, stage=tuple(PipelineStage)
        )

    def _latencies(self, make: Instruments) -> None:
        self.first_result_latency = make.histogram(
            "first_result_latency_seconds",
            "Time from the arrival of the first audio of a stream's first event to that event.",
            LATENCY,
        )
        self.first_interim_latency = make.histogram(
            "first_interim_latency_seconds",
            "Time from the arrival of a segment's first audio to its first interim.",
            LATENCY,
        )
        self.final_latency = make.histogram(
            "final_latency_seconds",
            "Time from the arrival of a segment's last audio until its final is written.",
            LATENCY,
        )
        self.endpoint_delay = make.histogram(
            "endpoint_delay_seconds",
            "Time from the arrival of a segment's last audio until its end is detected.",
            LATENCY,
        )
        self.audio_out_delay = make.histogram(
            "audio_out_delay_seconds",
            "Time from the arrival of audio until the audio out in its place is written (simple), or from the end of a "
            "segment until its answer begins (segmented).",
            LATENCY,
        )
        self.result_lag = make.histogram(
            "result_lag_seconds", "Received minus committed audio, observed each half second of audio.", LATENCY
        )

    def _inference(self, make: Instruments) -> None:
        self.inference = make.histogram(
            "inference_seconds", "Duration of a model call.", WORK, model=(self.model,), outcome=tuple(CallOutcome)
        )
        self.queue_wait = make.histogram("inference_queue_wait_seconds", "Time that a job waited for a worker.", WAIT)
        self.batch_size = make.histogram("inference_batch_size", "Jobs in one call of the model.", SIZE)
        self.pending = make.gauge("inference_pending", "Jobs waiting for a worker.")
        self.workers = make.gauge("workers", "Model workers, by state.", state=tuple(WorkerState))
        self.worker_restarts = make.counter(
            "worker_restarts", "Model workers lost and replaced.", cause=tuple(LossCause)
        )
        self.interims_dropped = make.counter(
            "interims_dropped", "Interims dropped before they ran.", cause=tuple(DropCause)
        )
        self.interims_unread = make.counter(
            "interims_unread", "Interims and acks dropped because the client reads slowly."
        )
        self.model_state = make.gauge(
            "model_state",
            "1 for the state of each of several models.",
            eager=False,  # absent on a server with one model
            state=tuple(ModelState),
        )
        self.model_refused = make.counter(
            "model_refused",
            "Sessions that one of several models refused: it was full, still loading, or could not be loaded.",
            eager=False,
        )
        self.job_failures = make.counter("inference_failures", "Jobs that failed.", code=CODES)

    def _tasks(self, make: Instruments) -> None:
        def counter(name: str, help: str) -> Family[Counter]:
            return make.counter(name, help, subsystem=tuple(Subsystem))

        self.tasks_instrumented = counter("tasks_instrumented", "Tasks started.")
        self.tasks_dropped = counter("tasks_dropped", "Tasks finished.")
        self.task_polls = counter("task_polls", "Polls: times that the event loop resumed a task.")
        self.task_slow_polls = counter("task_slow_polls", "Polls longer than 10 ms, which block everything else.")
        self.task_poll_seconds = counter("task_poll_seconds", "Time spent in polls.")
        self.task_first_poll_delay = counter(
            "task_first_poll_delay_seconds", "Time from the creation of a task to its first poll."
        )
        self.task_idle = counter("task_idle_seconds", "Time that tasks waited for an event.")
        self.task_scheduled = counter("task_scheduled_seconds", "Time that tasks were ready to run but not running.")
        self.task_failures = counter("task_failures", "Unexpected errors of the server itself.")
        self.loop_lag = make.histogram(
            "event_loop_lag_seconds", "Delay of an event loop timer beyond its due time.", LAG
        )

    def _life(self, make: Instruments, version: str) -> None:
        python = platform.python_version()
        self.build_info = build = make.gauge(
            "build_info",
            "Versions and the model's name, as labels.",
            version=(version,),
            python=(python,),
            model=(self.model,),
        )
        build.child(version, python, self.model).set(1)
        self.certificate_expiry = make.gauge(
            "certificate_expiry_timestamp_seconds",
            "Expiry of the served certificate, in seconds since 1970.",
            eager=False,  # absent on a server without TLS
        )
        self.ready = make.gauge(
            "ready",
            "1 if new sessions can be accepted. With several processes: 1 if every serving process is ready; "
            "streamer_processes counts those that are starting or down.",
        )
        self.load = make.gauge(
            "load",
            "Load of this server, 0 to 1: the greatest of sessions, expected wait and event loop lag, each as a share "
            "of its limit. With several processes: of the busiest. For autoscaling; not to be summed.",
        )
        self.draining = make.gauge("draining", "1 while the server is draining.")
        self.admission_rejected = make.counter(
            "admission_rejected", "Sessions rejected for lack of capacity.", reason=REFUSALS
        )
        self.telemetry_dropped = make.counter("telemetry_dropped", "Spans and log records lost.", signal=tuple(Signal))


__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "PipelineStage", "Signal", "WorkerState"]
