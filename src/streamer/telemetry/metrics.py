"""Every metric of a server, by name: what it means, its unit, its labels. No other module names one of these."""

from __future__ import annotations

import platform
from enum import StrEnum

from streamer.errors import ErrorCode
from streamer.inference.observer import Dropped, Ended, Lost
from streamer.session.events import Mode, WarningCode
from streamer.telemetry.instruments import Counter, Family, Gauge, Histogram, Instruments
from streamer.telemetry.observer import Subsystem

PREFIX = "streamer_"

TRANSPORTS = ("websocket", "grpc", "memory")
MODES = tuple(Mode)
CODES = tuple(ErrorCode)
ACCEPTED = "accepted"
STOPPED, GONE = "stopped", "gone"
"""How a session ends that ends without a fault: by its client's stop, or with its client."""

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


class Stage(StrEnum):
    """Where audio is worked on; the original's three."""

    AUDIO_DECODING = "audio_decoding"
    VAD_PROCESSING = "vad_processing"
    MODEL_INFERENCE = "model_inference"


class WorkerState(StrEnum):
    """What a model worker is doing."""

    IDLE = "idle"
    BUSY = "busy"
    DOWN = "down"


class Signal(StrEnum):
    """What telemetry may have to drop."""

    SPANS = "spans"
    LOGS = "logs"


class Metrics:
    """All families of one serving process. `model` and `version` are the server's own words, never a client's."""

    def __init__(self, model: str, version: str) -> None:
        self.instruments = make = Instruments(PREFIX)
        self.model = model
        self._sessions(make)
        self._audio(make)
        self._latencies(make)
        self._inference(make)
        self._tasks(make)
        self._life(make, version)

    def _sessions(self, make: Instruments) -> None:
        self.sessions_started = make.counter("sessions_started", "Sessions begun.", transport=TRANSPORTS, mode=MODES)
        self.sessions_closed = make.counter(
            "sessions_closed",
            "Sessions ended: stopped by the client, gone without a word, or the code of a fault.",
            transport=TRANSPORTS,
            reason=(STOPPED, GONE, *CODES),
        )
        self.sessions_active = make.gauge("sessions_active", "Sessions open now.", transport=TRANSPORTS, mode=MODES)
        self.session_duration = make.histogram("session_duration_seconds", "From a session's begin to its end.", LENGTH)
        self.handshakes = make.counter(
            "handshakes", "Attempts to connect: accepted or refused.", transport=TRANSPORTS, outcome=(ACCEPTED, *CODES)
        )
        self.auth_failures = make.counter("auth_failures", "Clients that may not connect.", reason=AUTH_FAILURES)
        self.protocol_errors = make.counter(
            "protocol_errors", "Messages against the protocol, answered with an error.", code=PROTOCOL_ERRORS
        )
        self.warnings = make.counter("warnings", "What clients were warned of.", code=tuple(WarningCode))
        self.held = make.counter("clients_held", "Times a client was too far ahead and was not read for a while.")

    def _audio(self, make: Instruments) -> None:
        self.audio_received_seconds = make.counter("audio_received_seconds", "Audio received.")
        self.audio_received_bytes = make.counter("audio_received_bytes", "Audio received.")
        self.audio_processed_seconds = make.counter("audio_processed_seconds", "Audio covered by results or let go.")
        self.audio_lead = make.histogram(
            "audio_lead_seconds", "Audio received and not yet dealt with, each half second of audio.", LATENCY
        )
        self.audio_buffered = make.gauge(
            "audio_buffered_bytes", "Memory for audio: waiting, in speech that goes on, and given to the model."
        )
        self.rtf = make.histogram(
            "rtf", "Real-time factor: processing time over the length of the audio.", RTF, stage=tuple(Stage)
        )
        self.media_duration = make.histogram(
            "media_duration_seconds", "Length of the audio of one piece of work.", MEDIA, stage=tuple(Stage)
        )
        self.processing_duration = make.histogram(
            "processing_duration_seconds", "Time of one piece of work.", WORK, stage=tuple(Stage)
        )

    def _latencies(self, make: Instruments) -> None:
        self.first_result_latency = make.histogram(
            "first_result_latency_seconds",
            "Arrival of the audio that a stream's first fact or result begins with, to that.",
            LATENCY,
        )
        self.first_interim_latency = make.histogram(
            "first_interim_latency_seconds", "Arrival of a segment's first audio to its first interim.", LATENCY
        )
        self.final_latency = make.histogram(
            "final_latency_seconds", "Arrival of a segment's last audio to its final written.", LATENCY
        )
        self.endpoint_delay = make.histogram(
            "endpoint_delay_seconds", "Arrival of a segment's last audio to its end being known.", LATENCY
        )
        self.result_lag = make.histogram(
            "result_lag_seconds", "Audio received minus audio covered by results, each half second of audio.", LATENCY
        )

    def _inference(self, make: Instruments) -> None:
        self.inference = make.histogram(
            "inference_seconds", "Calls of the model.", WORK, model=(self.model,), outcome=tuple(Ended)
        )
        self.queue_wait = make.histogram("inference_queue_wait_seconds", "Time a job waited for a worker.", WAIT)
        self.batch_size = make.histogram("inference_batch_size", "Jobs in one call of the model.", SIZE)
        self.pending = make.gauge("inference_pending", "Jobs that wait for a worker.")
        self.workers = make.gauge("workers", "Model workers by what they do.", state=tuple(WorkerState))
        self.worker_restarts = make.counter("worker_restarts", "Model workers lost and replaced.", cause=tuple(Lost))
        self.interims_dropped = make.counter("interims_dropped", "Interims that never ran.", cause=tuple(Dropped))
        self.interims_unread = make.counter(
            "interims_unread", "Interims and acks dropped for a client that reads slowly."
        )
        self.job_failures = make.counter("inference_failures", "Jobs without an answer.", code=CODES)

    def _tasks(self, make: Instruments) -> None:
        def counter(name: str, help: str) -> Family[Counter]:
            return make.counter(name, help, subsystem=tuple(Subsystem))

        self.tasks_instrumented = counter("tasks_instrumented", "Tasks begun.")
        self.tasks_dropped = counter("tasks_dropped", "Tasks that are over.")
        self.task_polls = counter("task_polls", "Times a task ran until it next had to wait.")
        self.task_slow_polls = counter("task_slow_polls", "Polls of more than 10 ms, in which nothing else could run.")
        self.task_poll_seconds = counter("task_poll_seconds", "Time in polls.")
        self.task_first_poll_delay = counter("task_first_poll_delay_seconds", "From a task's making to its first poll.")
        self.task_idle = counter("task_idle_seconds", "Time in which tasks waited for something to happen.")
        self.task_scheduled = counter("task_scheduled_seconds", "Time in which tasks could run and others ran.")
        self.task_failures = counter("task_failures", "Errors of our own that no rule foresees.")
        self.loop_lag = make.histogram("event_loop_lag_seconds", "How late a timer of the event loop fires.", LAG)

    def _life(self, make: Instruments, version: str) -> None:
        python = platform.python_version()
        build = make.gauge("build_info", "What runs here.", version=(version,), python=(python,), model=(self.model,))
        build.child(version, python, self.model).set(1)
        self.certificate_expiry = make.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires, in seconds since 1970.",
            eager=False,  # a server without TLS has none
        )
        self.ready = make.gauge(
            "ready",
            "1 when new work should be sent here. Of several processes: when each that serves is ready; "
            "streamer_processes counts those that are starting or down.",
        )
        self.draining = make.gauge("draining", "1 from the signal to the end.")
        self.admission_rejected = make.counter("admission_rejected", "Sessions not taken on.", reason=REFUSALS)
        self.telemetry_dropped = make.counter("telemetry_dropped", "Spans and log records lost.", signal=tuple(Signal))


__all__ = ["Counter", "Gauge", "Histogram", "Metrics", "Signal", "Stage", "WorkerState"]
