"""The dashboards as values: each panel has a question, its unit, and its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

RATE = "$__rate_interval"


class Unit(StrEnum):
    """Grafana's names of units."""

    COUNT = "short"
    SECONDS = "s"
    RATIO = "percentunit"
    PER_SECOND = "ops"
    BYTES = "bytes"
    TIMES = "none"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the legend of its lines."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    `number`: a single figure instead of lines over time; `warn` and `bad` are thresholds of its colour.
    """

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    about: str = ""
    number: bool = False
    warn: float | None = None
    bad: float | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels of one topic."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return the rate per second, summed over all labels but `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(streamer_{metric}{where}[{RATE}]))"


def quantile(q: float, metric: str, where: str = "") -> str:
    """Return a quantile of a histogram, over all servers."""
    return f"histogram_quantile({q}, sum by (le) (rate(streamer_{metric}_bucket{where}[{RATE}])))"


def quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    return tuple(Query(quantile(q, metric, where), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def mean(metric: str, by: str = "") -> str:
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


FAULTS = '{reason=~"internal|model_error|model_timeout|model_crashed|overloaded"}'
"""Reasons of a session's end that are errors of the server."""

SHARE_OF_FAULTS = f"{rate('sessions_closed_total', where=FAULTS)} / {rate('sessions_closed_total')} or vector(0)"
WORK = f"{rate('processing_duration_seconds_sum', 'stage')} / {rate('media_duration_seconds_sum', 'stage')}"
FIRST_POLL = (
    f"{rate('task_first_poll_delay_seconds_total', 'subsystem')} / {rate('tasks_instrumented_total', 'subsystem')}"
)
TASKS_ALIVE = "sum by (subsystem) (streamer_tasks_instrumented_total - streamer_tasks_dropped_total)"


def line(title: str, unit: Unit, expr: str, legend: str, about: str = "") -> Panel:
    """Return a panel with one query over time."""
    return Panel(title, unit, (Query(expr, legend),), about)


def split(title: str, metric: str, label: str, unit: Unit = Unit.PER_SECOND, about: str = "") -> Panel:
    """Return a panel with a counter's rate, one line per value of a label."""
    return line(title, unit, rate(metric, label), f"{{{{{label}}}}}", about)


def spread(title: str, metric: str, about: str = "", where: str = "", unit: Unit = Unit.SECONDS) -> Panel:
    """Return a panel with a histogram's quantiles."""
    return Panel(title, unit, quantiles(metric, where), about)


ACTIVE = line("Open sessions", Unit.COUNT, "sum by (mode) (streamer_sessions_active)", "{{mode}}")
AUDIO = Panel(
    "Audio per second",
    Unit.TIMES,
    (
        Query(rate("audio_received_seconds_total"), "received"),
        Query(rate("audio_processed_seconds_total"), "processed"),
    ),
    "Seconds of audio per second: the active streams. If processed is below received, the server falls behind.",
)
FINAL = Panel(
    "Final latency", Unit.SECONDS, quantiles("final_latency_seconds"), "From the last audio of a segment to its final."
)
LAG = spread("Loop lag", "event_loop_lag_seconds", "Delay of everything on the event loop.")
RTF = line(
    "Real-time factor by stage", Unit.TIMES, WORK, "{{stage}}", "Above 1, audio arrives faster than it is processed."
)
WORKERS = line("Model workers", Unit.COUNT, "sum by (state) (streamer_workers)", "{{state}}")

DASHBOARDS: Sequence[Dashboard] = (
    Dashboard(
        "streamer-overview",
        "Streamer",
        (
            Panel("Ready", Unit.COUNT, (Query("sum(streamer_ready)", "servers"),), number=True),
            Panel("Streams", Unit.COUNT, (Query("sum(streamer_sessions_active)", "open"),), number=True),
            Panel(
                "p95 final",
                Unit.SECONDS,
                (Query(quantile(0.95, "final_latency_seconds"), "p95"),),
                number=True,
                warn=1,
                bad=2,
            ),
            Panel("Server errors", Unit.RATIO, (Query(SHARE_OF_FAULTS, "ours"),), number=True, warn=0.001, bad=0.01),
            ACTIVE,
            AUDIO,
            FINAL,
            RTF,
            WORKERS,
            LAG,
        ),
    ),
    Dashboard(
        "streamer-sessions",
        "Streamer: sessions",
        (
            ACTIVE,
            split("Started", "sessions_started_total", "transport"),
            line("Closed, by reason", Unit.PER_SECOND, rate("sessions_closed_total", "reason") + " > 0", "{{reason}}"),
            line("Closed by server errors", Unit.RATIO, SHARE_OF_FAULTS, "ours"),
            spread("Duration", "session_duration_seconds"),
            line("Handshakes", Unit.PER_SECOND, rate("handshakes_total", "outcome") + " > 0", "{{outcome}}"),
            split("Failed authentication", "auth_failures_total", "reason"),
            split("Protocol errors", "protocol_errors_total", "code"),
            AUDIO,
            line("Bytes per second", Unit.BYTES, rate("audio_received_bytes_total"), "received"),
        ),
    ),
    Dashboard(
        "streamer-latency",
        "Streamer: latency",
        (
            FINAL,
            spread("Endpoint delay", "endpoint_delay_seconds", "Delay caused by waiting for the end of speech."),
            spread("First interim", "first_interim_latency_seconds", "Since the start of the speech."),
            spread("First result", "first_result_latency_seconds"),
            spread("Lag", "result_lag_seconds", "Received audio without a result."),
            spread("Audio out", "audio_out_delay_seconds", "From audio in to the audio out in its place."),
            line(
                "Gaps in audio out",
                Unit.RATIO,
                f"{rate('audio_out_gap_seconds_total')} / {rate('audio_out_seconds_total')}",
                "silence",
                "Silence that a listener with a jitter buffer of 40 ms hears, per second of audio.",
            ),
            spread("Wait for a worker", "inference_queue_wait_seconds"),
        ),
    ),
    Dashboard(
        "streamer-rtf",
        "Streamer: real-time factor",
        (
            RTF,
            *(
                spread(f"{stage}, per step", "rtf", where=f'{{stage="{stage}"}}', unit=Unit.TIMES)
                for stage in ("audio_decoding", "vad_processing", "model_inference")
            ),
            line("Audio per step", Unit.SECONDS, mean("media_duration_seconds", "stage"), "{{stage}}"),
            line("Processing time per step", Unit.SECONDS, mean("processing_duration_seconds", "stage"), "{{stage}}"),
        ),
    ),
    Dashboard(
        "streamer-model",
        "Streamer: model",
        (
            WORKERS,
            split("Calls", "inference_seconds_count", "outcome"),
            spread("Call duration", "inference_seconds"),
            line("Jobs per call", Unit.COUNT, mean("inference_batch_size"), "mean"),
            line("Queued jobs", Unit.COUNT, "sum(streamer_inference_pending)", "waiting"),
            split("Failed jobs", "inference_failures_total", "code"),
            split("Workers lost", "worker_restarts_total", "cause"),
            split("Dropped interims", "interims_dropped_total", "cause"),
        ),
    ),
    Dashboard(
        "streamer-loop",
        "Streamer: event loop and tasks",
        (
            LAG,
            split("Time in polls", "task_poll_seconds_total", "subsystem", Unit.RATIO),
            split("Polls", "task_polls_total", "subsystem"),
            split("Slow polls", "task_slow_polls_total", "subsystem", about="Longer than 10 ms."),
            line("Tasks alive", Unit.COUNT, TASKS_ALIVE, "{{subsystem}}"),
            line("Delay of the first poll", Unit.SECONDS, FIRST_POLL, "{{subsystem}}"),
            split("Ready but not running", "task_scheduled_seconds_total", "subsystem", Unit.RATIO),
            split("Waiting", "task_idle_seconds_total", "subsystem", Unit.COUNT),
            split("Unexpected errors", "task_failures_total", "subsystem"),
            line("Processor", Unit.RATIO, f"sum(rate(process_cpu_seconds_total[{RATE}]))", "cores"),
            line("Memory", Unit.BYTES, "sum(process_resident_memory_bytes)", "resident"),
        ),
    ),
    Dashboard(
        "streamer-overload",
        "Streamer: overload",
        (
            split("Rejected sessions", "admission_rejected_total", "reason"),
            spread("Unprocessed audio", "audio_lead_seconds", "Audio received and not yet processed."),
            line("Memory for audio", Unit.BYTES, "sum(streamer_audio_buffered_bytes)", "held"),
            line("Queued jobs", Unit.COUNT, "sum(streamer_inference_pending)", "waiting"),
            split("Dropped interims", "interims_dropped_total", "cause"),
            line("Dropped for slow readers", Unit.PER_SECOND, rate("interims_unread_total"), "events"),
            split("Telemetry lost", "telemetry_dropped_total", "signal"),
            line("Draining", Unit.COUNT, "sum(streamer_draining)", "servers"),
        ),
    ),
)
