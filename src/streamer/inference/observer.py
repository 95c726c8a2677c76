"""Interface for observing the engine. The default observers do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

from streamer.inference.scheduler import DropCause
from streamer.session.actions import Job


class CallOutcome(StrEnum):
    """Outcome of a batch."""

    ANSWERED = "answered"
    RAISED = "raised"
    """The model's call raised an uncaught error."""
    HUNG = "hung"
    CRASHED = "crashed"


class LossCause(StrEnum):
    """Cause of the loss of a worker."""

    LOAD_FAILED = "load_failed"
    CRASHED = "crashed"
    HUNG = "hung"
    MEMORY = "memory"
    """It exceeded its memory limit and was replaced between two batches."""


class EngineObserver:
    """Called on the event loop; must not block or raise. The base class does nothing."""

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> str | None:
        """Handle the start of a batch; return the traceparent for the worker.

        `waits`: seconds that each job has waited, in order.
        """

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome) -> None:
        """Handle the end of a batch. `seconds`: duration of the call."""

    def job_failed(self, job: Job, code: str) -> None:
        """Handle a job that failed."""

    def interim_dropped(self, job: Job, cause: DropCause) -> None:
        """Handle an interim that was dropped."""

    def worker_started(self, worker: int, seconds: float) -> None:
        """Handle a worker that is loaded, `seconds` after its start."""

    def worker_lost(self, worker: int, cause: LossCause) -> None:
        """Handle the loss of a worker. Another one is started, now or later."""

    def spans_lost(self, count: int) -> None:
        """Handle spans that a worker could not send."""


_NO_SPAN = nullcontext()


class WorkerObserver:
    """Observes a worker from the inside; created and used on its thread. The base class does nothing."""

    def trace_call(self, trace: str | None, items: int) -> AbstractContextManager[object]:
        """Return a context for a call of the model. `trace`: the traceparent that `batch_started` returned."""
        return _NO_SPAN

    def dropped_since_last(self) -> int:
        """Return the number of spans lost since the last call of this method."""
        return 0

    def stop(self) -> None:
        """Handle the orderly end of the worker."""


class EngineObservers(EngineObserver):
    """Several observers as one. Observers may be added before the engine starts."""

    def __init__(self) -> None:
        self._listeners: list[EngineObserver] = []

    def add(self, listener: EngineObserver) -> None:
        self._listeners.append(listener)

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> str | None:
        trace: str | None = None
        for listener in self._listeners:
            hints = listener.batch_started(worker, jobs, waits)
            trace = hints if trace is None else trace
        return trace

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome) -> None:
        for listener in self._listeners:
            listener.batch_finished(worker, jobs, seconds, outcome)

    def job_failed(self, job: Job, code: str) -> None:
        for listener in self._listeners:
            listener.job_failed(job, code)

    def interim_dropped(self, job: Job, cause: DropCause) -> None:
        for listener in self._listeners:
            listener.interim_dropped(job, cause)

    def worker_started(self, worker: int, seconds: float) -> None:
        for listener in self._listeners:
            listener.worker_started(worker, seconds)

    def worker_lost(self, worker: int, cause: LossCause) -> None:
        for listener in self._listeners:
            listener.worker_lost(worker, cause)

    def spans_lost(self, count: int) -> None:
        for listener in self._listeners:
            listener.spans_lost(count)


__all__ = ["CallOutcome", "DropCause", "EngineObserver", "EngineObservers", "LossCause", "WorkerObserver"]
