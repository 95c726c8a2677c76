"""Figures of a server from two scrapes, for use without Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isnan, nan

from prometheus_client.parser import text_string_to_metric_families

from streamer.telemetry.metrics import PREFIX, PipelineStage, WorkerState

LabelSet = frozenset[tuple[str, str]]

LATENCIES = (
    ("final", "final_latency_seconds"),
    ("endpoint", "endpoint_delay_seconds"),
    ("first interim", "first_interim_latency_seconds"),
    ("first result", "first_result_latency_seconds"),
    ("result lag", "result_lag_seconds"),
    ("model call", "inference_seconds"),
    ("queue", "inference_queue_wait_seconds"),
    ("loop lag", "event_loop_lag_seconds"),
)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles in seconds of `count` observations; nan without any."""

    count: int
    p50: float = nan
    p95: float = nan
    p99: float = nan


@dataclass(frozen=True, slots=True)
class Overview:
    """Figures of the time between two scrapes; rates are per second."""

    model: str
    version: str
    ready: bool
    draining: bool
    sessions: Mapping[tuple[str, str], int]
    """Open sessions by transport and mode."""
    sessions_started: float
    sessions_closed: Mapping[str, float]
    """Closed sessions by reason."""
    refusals: float
    audio: float
    """Received seconds of audio per second."""
    processed: float
    buffered_bytes: float
    rtf: Mapping[PipelineStage, float]
    """Seconds of processing per second of audio; nan without any."""
    latencies: Mapping[str, Quantiles]
    workers: Mapping[WorkerState, int]
    pending: int
    batch: float
    """Mean number of jobs per call."""
    failures: float
    """Failed jobs, unexpected errors and lost workers."""
    telemetry_lost: float
    cores: float
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one scrape. `at`: monotonic seconds."""

    at: float
    samples: Mapping[str, Mapping[LabelSet, float]]

    @classmethod
    def parse(cls, text: str, at: float) -> Scrape:
        """Parse Prometheus text. Raises ValueError."""
        samples: defaultdict[str, dict[LabelSet, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name][frozenset(sample.labels.items())] = sample.value
        return cls(at, samples)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum over all series with these labels."""
        pairs = labels.items()
        return sum(value for found, value in self.samples.get(PREFIX + name, {}).items() if pairs <= found)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sums by one label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for found, value in self.samples.get(PREFIX + name, {}).items():
            sums[dict(found)[label]] += value
        return sums


@dataclass(frozen=True, slots=True)
class ScrapeDelta:
    """The changes between two scrapes."""

    before: Scrape
    now: Scrape
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seconds", max(self.now.at - self.before.at, 1e-9))

    def increase(self, name: str, **labels: str) -> float:
        """Return the increase of a counter; one that decreased has restarted."""
        before, now = self.before.sum(name, **labels), self.now.sum(name, **labels)
        return now - before if now >= before else now

    def rate(self, name: str) -> float:
        return self.increase(name) / self.seconds

    def quantiles(self, name: str) -> Quantiles:
        """Return quantiles as Prometheus computes them, interpolated within a bucket."""
        bounds = self.now.by(f"{name}_bucket", "le")
        before = self.before.by(f"{name}_bucket", "le")
        buckets = sorted((float(bound), count - before.get(bound, 0.0)) for bound, count in bounds.items())
        if not buckets or buckets[-1][1] <= 0:
            return Quantiles(0)
        return Quantiles(int(buckets[-1][1]), *(_quantile(q, buckets) for q in (0.5, 0.95, 0.99)))

    def overview(self) -> Overview:
        now = self.now
        builds = [dict(labels) for labels in now.samples.get(f"{PREFIX}build_info", {})]
        build = builds[0] if builds else {}
        process = {name: next(iter(now.samples.get(f"process_{name}", {}).values()), nan) for name in
                   ("cpu_seconds_total", "resident_memory_bytes")}  # fmt: skip
        cpu_before = next(iter(self.before.samples.get("process_cpu_seconds_total", {}).values()), nan)
        calls = self.increase("inference_batch_size_count")
        before_ended = self.before.by("sessions_closed_total", "reason")
        return Overview(
            model=", ".join(sorted({each.get("model", "?") for each in builds})) or "?",
            version=build.get("version", "?"),
            ready=now.sum("ready") > 0,
            draining=now.sum("draining") > 0,
            sessions=_sessions(now),
            sessions_started=self.rate("sessions_started_total"),
            sessions_closed={
                reason: (count - before_ended.get(reason, 0.0)) / self.seconds
                for reason, count in now.by("sessions_closed_total", "reason").items()
            },
            refusals=self.rate("admission_rejected_total") + self.rate("auth_failures_total"),
            audio=self.rate("audio_received_seconds_total"),
            processed=self.rate("audio_processed_seconds_total"),
            buffered_bytes=now.sum("audio_buffered_bytes"),
            rtf={stage: self._rtf(stage) for stage in PipelineStage},
            latencies={title: self.quantiles(name) for title, name in LATENCIES},
            workers={state: int(now.sum("workers", state=state)) for state in WorkerState},
            pending=int(now.sum("inference_pending")),
            batch=self.increase("inference_batch_size_sum") / calls if calls else nan,
            failures=sum(map(self.rate, ("inference_failures_total", "task_failures_total", "worker_restarts_total"))),
            telemetry_lost=self.rate("telemetry_dropped_total"),
            cores=(process["cpu_seconds_total"] - cpu_before) / self.seconds,
            memory_bytes=process["resident_memory_bytes"],
        )

    def _rtf(self, stage: PipelineStage) -> float:
        audio_s = self.increase("media_duration_seconds_sum", stage=stage)
        return self.increase("processing_duration_seconds_sum", stage=stage) / audio_s if audio_s else nan


def _sessions(now: Scrape) -> dict[tuple[str, str], int]:
    """Return the open sessions of all models by transport and mode."""
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for found, value in now.samples.get(f"{PREFIX}sessions_active", {}).items():
        labels = dict(found)
        sums[labels["transport"], labels["mode"]] += int(value)
    return sums


def _quantile(q: float, buckets: list[tuple[float, float]]) -> float:
    """Return a quantile. `buckets`: (upper bound, cumulative count), ascending, the last without bound."""
    rank, lower, below = q * buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if bound == inf else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return nan


def is_known(value: float) -> bool:
    """Return whether a figure is available."""
    return not isnan(value)
