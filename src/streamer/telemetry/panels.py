"""What operators look at, as values: each panel a question, its unit, and the queries that answer it."""

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
    """PromQL, and what its lines are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One question. `number`: a single figure rather than lines over time; `warn` and `bad` colour it."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    about: str = ""
    number: bool = False
    warn: float | None = None
    bad: float | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels of one kind, under one address."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Per second, summed over all but `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(streamer_{metric}{where}[{RATE}]))"


def quantile(q: float, metric: str, where: str = "") -> str:
    """Of a histogram, over all servers."""
    return f"histogram_quantile({q}, sum by (le) (rate(streamer_{metric}_bucket{where}[{RATE}])))"


def quantiles(metric: str, where: str = "") -> tuple[Query, ...]:
    return tuple(Query(quantile(q, metric, where), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99))


def mean(metric: str, by: str = "") -> str:
    return f"{rate(f'{metric}_sum', by)} / {rate(f'{metric}_count', by)}"


FAULTS = '{reason=~"internal|model_error|model_timeout|model_crashed|overloaded"}'
"""How sessions end that end by the server's fault."""

SHARE_OF_FAULTS = f"{rate('sessions_closed_total', where=FAULTS)} / {rate('sessions_closed_total')} or vector(0)"
WORK = f"{rate('processing_duration_seconds_sum', 'stage')} / {rate('media_duration_seconds_sum', 'stage')}"
FIRST_POLL = (
    f"{rate('task_first_poll_delay_seconds_total', 'subsystem')} / {rate('tasks_instrumented_total', 'subsystem')}"
)
TASKS_ALIVE = "sum by (subsystem) (streamer_tasks_instrumented_total - streamer_tasks_dropped_total)"


def line(title: str, unit: Unit, expr: str, legend: str, about: str = "") -> Panel:
    """One query over time."""
    return Panel(title, unit, (Query(expr, legend),), about)


def split(title: str, metric: str, label: str, unit: Unit = Unit.PER_SECOND, about: str = "") -> Panel:
    """A counter's rate, a line for each value of a label."""
    return line(title, unit, rate(metric, label), f"{{{{{label}}}}}", about)


def spread(title: str, metric: str, about: str = "", where: str = "", unit: Unit = Unit.SECONDS) -> Panel:
    """A histogram's quantiles."""
    return Panel(title, unit, quantiles(metric, where), about)


ACTIVE = line("Sessions open", Unit.COUNT, "sum by (mode) (streamer_sessions_active)", "{{mode}}")
AUDIO = Panel(
    "Audio a second",
    Unit.TIMES,
    (
        Query(rate("audio_received_seconds_total"), "received"),
        Query(rate("audio_processed_seconds_total"), "processed"),
    ),
    "Seconds of audio in each second: the number of streams that speak. Processed below received: it falls behind.",
)
FINAL = Panel(
    "Final latency", Unit.SECONDS, quantiles("final_latency_seconds"), "Last audio of a segment to its final."
)
LAG = spread("Loop lag", "event_loop_lag_seconds", "What everybody on the event loop waits.")
RTF = line("Real-time factor by stage", Unit.TIMES, WORK, "{{stage}}", "Above 1, audio comes faster.")
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
            Panel("Ended by us", Unit.RATIO, (Query(SHARE_OF_FAULTS, "ours"),), number=True, warn=0.001, bad=0.01),
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
            split("Begun", "sessions_started_total", "transport"),
            line("Ended, by reason", Unit.PER_SECOND, rate("sessions_closed_total", "reason") + " > 0", "{{reason}}"),
            line("Ended by the server's fault", Unit.RATIO, SHARE_OF_FAULTS, "ours"),
            spread("Length", "session_duration_seconds"),
            line("Handshakes", Unit.PER_SECOND, rate("handshakes_total", "outcome") + " > 0", "{{outcome}}"),
            split("May not connect", "auth_failures_total", "reason"),
            split("Against the protocol", "protocol_errors_total", "code"),
            AUDIO,
            line("Bytes a second", Unit.BYTES, rate("audio_received_bytes_total"), "received"),
        ),
    ),
    Dashboard(
        "streamer-latency",
        "Streamer: latency",
        (
            FINAL,
            spread("Endpoint delay", "endpoint_delay_seconds", "The part that waiting for more speech costs."),
            spread("First interim", "first_interim_latency_seconds", "Since the start of the speech."),
            spread("First result", "first_result_latency_seconds"),
            spread("Lag", "result_lag_seconds", "Audio received that no result covers yet."),
            spread("Wait for a worker", "inference_queue_wait_seconds"),
        ),
    ),
    Dashboard(
        "streamer-rtf",
        "Streamer: real-time factor",
        (
            RTF,
            *(
                spread(f"{stage}, by piece of work", "rtf", where=f'{{stage="{stage}"}}', unit=Unit.TIMES)
                for stage in ("audio_decoding", "vad_processing", "model_inference")
            ),
            line("Length of one piece of work", Unit.SECONDS, mean("media_duration_seconds", "stage"), "{{stage}}"),
            line("Time of one piece of work", Unit.SECONDS, mean("processing_duration_seconds", "stage"), "{{stage}}"),
        ),
    ),
    Dashboard(
        "streamer-model",
        "Streamer: model",
        (
            WORKERS,
            split("Calls", "inference_seconds_count", "outcome"),
            spread("Time of a call", "inference_seconds"),
            line("Jobs in a call", Unit.COUNT, mean("inference_batch_size"), "mean"),
            line("Jobs that wait", Unit.COUNT, "sum(streamer_inference_pending)", "waiting"),
            split("Jobs without an answer", "inference_failures_total", "code"),
            split("Workers lost", "worker_restarts_total", "cause"),
            split("Interims that never ran", "interims_dropped_total", "cause"),
        ),
    ),
    Dashboard(
        "streamer-loop",
        "Streamer: event loop and tasks",
        (
            LAG,
            split("Time in polls", "task_poll_seconds_total", "subsystem", Unit.RATIO),
            split("Polls", "task_polls_total", "subsystem"),
            split("Slow polls", "task_slow_polls_total", "subsystem", about="Over 10 ms."),
            line("Tasks alive", Unit.COUNT, TASKS_ALIVE, "{{subsystem}}"),
            line("First poll's delay", Unit.SECONDS, FIRST_POLL, "{{subsystem}}"),
            split("Ready and not run", "task_scheduled_seconds_total", "subsystem", Unit.RATIO),
            split("Waiting", "task_idle_seconds_total", "subsystem", Unit.COUNT),
            split("Errors that no rule foresees", "task_failures_total", "subsystem"),
            line("Processor", Unit.RATIO, f"sum(rate(process_cpu_seconds_total[{RATE}]))", "cores"),
            line("Memory", Unit.BYTES, "sum(process_resident_memory_bytes)", "resident"),
        ),
    ),
    Dashboard(
        "streamer-overload",
        "Streamer: overload",
        (
            split("Not taken on", "admission_rejected_total", "reason"),
            spread("Ahead of processing", "audio_lead_seconds", "Audio received and not yet dealt with."),
            line("Memory for audio", Unit.BYTES, "sum(streamer_audio_buffered_bytes)", "held"),
            line("Jobs that wait", Unit.COUNT, "sum(streamer_inference_pending)", "waiting"),
            split("Interims that never ran", "interims_dropped_total", "cause"),
            line("Dropped for slow readers", Unit.PER_SECOND, rate("interims_unread_total"), "events"),
            split("Telemetry lost", "telemetry_dropped_total", "signal"),
            line("Draining", Unit.COUNT, "sum(streamer_draining)", "servers"),
        ),
    ),
)
