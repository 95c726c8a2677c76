"""The telemetry of a server behind one observer: metrics, task metrics, traces, session records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Token
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, Metric, ProcessCollector

import streamer
from streamer.connection.hosted_model import HostedModel
from streamer.errors import ConfigError, ErrorCode, install_command
from streamer.inference.contract import EngineDepth
from streamer.inference.observer import CallOutcome, DropCause, EngineObserver, LossCause, WorkerObserver
from streamer.session.actions import Job
from streamer.session.summary import Summary
from streamer.telemetry.by_model import MetricsByModel
from streamer.telemetry.logs import CURRENT, Ids, Logs
from streamer.telemetry.metrics import Metrics, Signal
from streamer.telemetry.metrics_observer import MetricsObserver, untraced
from streamer.telemetry.observer import Observer, SessionInfo, SessionObserver, SessionView, Subsystem
from streamer.telemetry.otel_env import are_traces_enabled
from streamer.telemetry.session_log import SessionLog, log_refusal
from streamer.telemetry.session_recorder import SegmentTimeline, SessionRecorder, SessionSink
from streamer.telemetry.tasks import LagMean, TaskStats, watch_lag

if TYPE_CHECKING:
    from streamer.telemetry.tracing import Tracing

T = TypeVar("T")


class Telemetry(Observer, EngineObserver):
    """Observes everything, on the event loop. `registry` is the content of /metrics.

    `environment`: OTEL_* variables, without which nothing is traced. Raises ConfigError for a wrong one.
    """

    def __init__(
        self,
        model: str,
        environment: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        models: Sequence[str] = (),
    ) -> None:
        """Create telemetry. `models`: names of several models, whose metrics are separate; empty for one model."""
        self._clock = clock
        self._metrics = Metrics(model, streamer.__version__)
        self._metrics_observer = MetricsObserver(self._metrics)
        by_model = {name: Metrics(name, streamer.__version__) for name in models}
        self._of_model = {name: MetricsObserver(metrics) for name, metrics in by_model.items()}
        self._collector = MetricsByModel(self._metrics, by_model) if by_model else self._metrics.instruments
        self._tasks = {subsystem: TaskStats() for subsystem in Subsystem}
        self._sessions: dict[str, tuple[SessionRecorder, Ids]] = {}
        self._spans_lost = 0
        self._lag_task: asyncio.Task[None] | None = None
        self._loop_lag = LagMean()
        self._tracing: Tracing | None = None
        if are_traces_enabled(environment or {}):
            self._start_tracing(model, environment or {})
        self._metrics.instruments.refresh.append(self._read_tasks)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self._collector)
        self._process = ProcessCollector(registry=self.registry)

    # Life ---------------------------------------------------------------------------------------

    def watch(
        self,
        *,
        ready: Callable[[], bool],
        draining: Callable[[], bool],
        depth: Callable[[], EngineDepth],
        load: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Set the sources of gauges, which are read at each scrape. `load`: without the event loop's."""
        self._metrics_observer.watch(
            ready=ready, draining=draining, depth=depth, load=lambda: max(load(), self._loop_lag.load)
        )

    def watch_models(self, models: Iterable[HostedModel]) -> None:
        """Set the sources of the gauges of each of several models."""
        for model in models:
            self._of_model[model.name].watch_model(model)

    def of_model(self, name: str) -> EngineObserver:
        """Return the observer of the engine of one of several models."""
        return _EngineOfModel(self, name)

    def watch_certificate(self, expiry: Callable[[], float | None]) -> None:
        """Set the source of the certificate's expiry, in seconds since 1970; None if unknown."""

        def refresh() -> None:
            if (at := expiry()) is not None:
                self._metrics.certificate_expiry.child().set(at)

        self._metrics.instruments.refresh.append(refresh)

    def watch_log(self, logs: Logs) -> None:
        """Count dropped log records, and give the log the traces of sessions."""
        logs.set_ids_source(self.ids_of)
        self._watch_dropped(Signal.LOGS, lambda: logs.dropped)

    def _watch_dropped(self, signal: Signal, dropped: Callable[[], int]) -> None:
        counter = self._metrics.telemetry_dropped.child(signal)

        def refresh() -> None:
            counter.value = float(dropped())

        self._metrics.instruments.refresh.append(refresh)

    def start(self) -> None:
        """Start to measure the running event loop."""
        self._lag_task = asyncio.create_task(watch_lag(self._observe_lag), name="event-loop-lag")

    async def collect(self) -> Iterable[Metric]:
        """Return all metrics, generated lazily, as `registry` would.

        The system's figures of the process are read on a thread: with thousands of descriptors that takes milliseconds.
        """
        process = await asyncio.to_thread(lambda: list(self._process.collect()))
        return chain(self._collector.collect(), process)

    async def stop(self) -> None:
        """Send the last spans within a time-out. Idempotent."""
        if self._lag_task is not None:
            self._lag_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._lag_task
            self._lag_task = None
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def ids_of(self, session_id: str) -> Ids | None:
        """Return the ids of a running session."""
        _, ids = self._sessions.get(session_id, (None, None))
        return ids

    # Reports of the connection manager -------------------------------------------------------------------

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        ids = Ids(info.id)
        sinks = [SessionLog(info, view, now), _SessionRemover(self._sessions, info.id, CURRENT.set(ids))]
        measuring = self._measuring_of(info.model)
        if self._tracing is None:
            sinks.insert(0, measuring.session_sink(info, now, untraced))
        else:  # metrics read the trace first, while it exists
            sinks.insert(0, self._tracing.session_sink(info, ids, now))
            sinks.insert(0, measuring.session_sink(info, now, self._tracing.trace_of))
        recorder = SessionRecorder(info, view, now, sinks)
        self._sessions[info.id] = recorder, ids
        return recorder

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        self._metrics_observer.on_refused(transport, code, peer)
        log_refusal(transport, code, peer)

    def on_batch_scored(self, audio_s: float, took_s: float) -> None:
        self._metrics_observer.on_batch_scored(audio_s, took_s)

    def unexpected_error(self, where: Subsystem, error: BaseException) -> None:
        self._metrics_observer.unexpected_error(where, error)

    def instrument_task(self, where: Subsystem, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        return self._tasks[where].task(work)

    # Reports of the engines ---------------------------------------------------------------------

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float], model: str = "") -> str | None:
        self._measuring_of(model).batch_started(worker, jobs, waits)
        now = self._clock()
        timelines: list[SegmentTimeline] = []
        for job in jobs:
            recorder, _ = self._sessions.get(job.session_id, (None, None))
            if recorder is not None:
                recorder.batch_started(job, now)
                if self._tracing is not None and (timeline := recorder.timeline_of(job)) is not None:
                    timelines.append(timeline)
        return (
            self._tracing.batch_started(worker, _key_of(jobs), timelines, now, model)
            if self._tracing is not None
            else None
        )

    def batch_finished(
        self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome, model: str = ""
    ) -> None:
        self._measuring_of(model).batch_finished(worker, jobs, seconds, outcome)
        now = self._clock()
        for job in jobs:
            recorder, _ = self._sessions.get(job.session_id, (None, None))
            if recorder is not None:
                recorder.batch_finished(job, now)
        if self._tracing is not None:
            self._tracing.batch_finished(_key_of(jobs), outcome, now)

    def job_failed(self, job: Job, code: str, model: str = "") -> None:
        self._measuring_of(model).job_failed(job, code)

    def interim_dropped(self, job: Job, cause: DropCause, model: str = "") -> None:
        self._measuring_of(model).interim_dropped(job, cause)

    def worker_lost(self, worker: int, cause: LossCause, model: str = "") -> None:
        self._measuring_of(model).worker_lost(worker, cause)

    def spans_lost(self, count: int) -> None:
        self._spans_lost += count

    def _observe_lag(self, lag_s: float) -> None:
        self._metrics.loop_lag.child().observe(lag_s)
        self._loop_lag.observe(lag_s)

    # Inside -------------------------------------------------------------------------------------

    def _measuring_of(self, model: str) -> MetricsObserver:
        return self._of_model.get(model, self._metrics_observer)

    def _start_tracing(self, model: str, environment: Mapping[str, str]) -> None:
        try:
            from streamer.telemetry.otel import provider  # noqa: PLC0415 (an extra)
            from streamer.telemetry.tracing import Tracing  # noqa: PLC0415
        except ImportError as error:
            raise _extra_missing(error) from None
        made, queue = provider(environment)
        self._tracing = Tracing(made, queue.put, model)
        self._watch_dropped(Signal.SPANS, lambda: queue.dropped + self._spans_lost)

    def _read_tasks(self) -> None:
        metrics = self._metrics
        for subsystem, stats in self._tasks.items():
            for family, value in (
                (metrics.tasks_instrumented, stats.instrumented),
                (metrics.tasks_dropped, stats.dropped),
                (metrics.task_polls, stats.polls),
                (metrics.task_slow_polls, stats.slow_polls),
                (metrics.task_poll_seconds, stats.poll_s),
                (metrics.task_first_poll_delay, stats.first_poll_delay_s),
                (metrics.task_idle, stats.idle_s),
                (metrics.task_scheduled, stats.scheduled_s),
            ):
                family.child(subsystem).value = float(value)


def worker_observer(environment: Mapping[str, str]) -> Callable[[], WorkerObserver]:
    """Return a factory of the observer that traces the model in a worker; picklable for worker processes."""
    if not are_traces_enabled(environment):
        return WorkerObserver
    try:
        from streamer.telemetry.worker import TracedWorker  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise _extra_missing(error) from None
    return TracedWorker


def _key_of(jobs: Sequence[Job]) -> tuple[str, int]:
    """Return the key of a batch. Several may run on a worker."""
    return jobs[0].session_id, jobs[0].id


def _extra_missing(error: ImportError) -> ConfigError:
    return ConfigError(f"OTEL_* variables enable traces, but {error}: {install_command('otel')}")


class _EngineOfModel(EngineObserver):
    """Reports of the engine of one of several models."""

    def __init__(self, telemetry: Telemetry, model: str) -> None:
        self._telemetry = telemetry
        self._model = model

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> str | None:
        return self._telemetry.batch_started(worker, jobs, waits, self._model)

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome) -> None:
        self._telemetry.batch_finished(worker, jobs, seconds, outcome, self._model)

    def job_failed(self, job: Job, code: str) -> None:
        self._telemetry.job_failed(job, code, self._model)

    def interim_dropped(self, job: Job, cause: DropCause) -> None:
        self._telemetry.interim_dropped(job, cause, self._model)

    def worker_lost(self, worker: int, cause: LossCause) -> None:
        self._telemetry.worker_lost(worker, cause, self._model)

    def spans_lost(self, count: int) -> None:
        self._telemetry.spans_lost(count)


class _SessionRemover(SessionSink):
    """Removes the session at its end. The last reader of a session."""

    def __init__(
        self, sessions: dict[str, tuple[SessionRecorder, Ids]], session_id: str, token: Token[Ids | None]
    ) -> None:
        self._sessions = sessions
        self._session_id = session_id
        self._token = token

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        del self._sessions[self._session_id]
        with suppress(ValueError):  # called from another task than the one that runs the connection
            CURRENT.reset(self._token)
