"""What happens in the engine, told to whoever counts it; by default nobody."""

from __future__ import annotations

from collections.abc import Sequence
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

    def batch_started(self, worker: int, jobs: Sequence[Job], waits: Sequence[float]) -> None:
        """`waits`: seconds that each job has waited, in order."""

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


__all__ = ["Dropped", "Ended", "EngineObserver", "Lost"]
