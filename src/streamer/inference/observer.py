"""What happens in the engine, told to whoever counts it; by default nobody."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum

from streamer.inference.batching import Dropped
from streamer.session.actions import Job


class Ended(StrEnum):
    """How a batch ended."""

    ANSWERED = "answered"
    RAISED = "raised"
    """An uncaught error left the model's call."""
    HUNG = "hung"
    CRASHED = "crashed"


class Lost(StrEnum):
    """Why a worker is no more."""

    LOAD_FAILED = "load_failed"
    CRASHED = "crashed"
    HUNG = "hung"
    MEMORY = "memory"
    """It grew past its limit and was replaced between two batches."""


class EngineObserver:
    """Called on the event loop: a listener must not block and must not raise. The base class listens to nothing."""

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> str | None:
        """`waits`: seconds that each job has waited, in order. Returns the traceparent that goes to the worker."""

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, ended: Ended) -> None:
        """`seconds`: from the start of the call to its end."""

    def job_failed(self, job: Job, code: str) -> None:
        """A job got no answer."""

    def interim_dropped(self, job: Job, cause: Dropped) -> None:
        """It never ran."""

    def worker_started(self, worker: int, seconds: float) -> None:
        """It is loaded and warm, `seconds` after it was asked for."""

    def worker_lost(self, worker: int, cause: Lost) -> None:
        """It is no more; another is started in its place, now or later."""

    def spans_lost(self, count: int) -> None:
        """A worker could not send so many spans."""


_UNSEEN = nullcontext()


class WorkerObserver:
    """Inside a worker, on its thread; made there. The base class does nothing."""

    def calling(self, trace: str | None, items: int) -> AbstractContextManager[object]:
        """Around each call of the model; `trace`: the traceparent that `batch_started` returned."""
        return _UNSEEN

    def take_lost(self) -> int:
        """Spans that could not be sent since this was asked last."""
        return 0

    def stop(self) -> None:
        """The worker ends, in order."""


class EngineObservers(EngineObserver):
    """Several listeners as one; more may join while nothing runs."""

    def __init__(self) -> None:
        self._listeners: list[EngineObserver] = []

    def add(self, listener: EngineObserver) -> None:
        self._listeners.append(listener)

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> str | None:
        trace: str | None = None
        for listener in self._listeners:
            told = listener.batch_started(worker, jobs, waits)
            trace = told if trace is None else trace
        return trace

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, ended: Ended) -> None:
        for listener in self._listeners:
            listener.batch_finished(worker, jobs, seconds, ended)

    def job_failed(self, job: Job, code: str) -> None:
        for listener in self._listeners:
            listener.job_failed(job, code)

    def interim_dropped(self, job: Job, cause: Dropped) -> None:
        for listener in self._listeners:
            listener.interim_dropped(job, cause)

    def worker_started(self, worker: int, seconds: float) -> None:
        for listener in self._listeners:
            listener.worker_started(worker, seconds)

    def worker_lost(self, worker: int, cause: Lost) -> None:
        for listener in self._listeners:
            listener.worker_lost(worker, cause)

    def spans_lost(self, count: int) -> None:
        for listener in self._listeners:
            listener.spans_lost(count)


__all__ = ["Dropped", "Ended", "EngineObserver", "EngineObservers", "Lost", "WorkerObserver"]
