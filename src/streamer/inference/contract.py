"""Interface of the inference engine. All methods are called on the event loop and never block it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamer.session.actions import Job, JobId, Outcome

DeliverOutcome = Callable[[JobId, Outcome], None]
"""Called on the event loop with any number of partial outcomes, then once with the last one."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a model worker is available; if not, the reason for an operator."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineDepth:
    """Queued and running work."""

    pending_items: int
    pending_seconds: float
    running_items: int
    workers_idle: int
    workers_busy: int
    workers_down: int
    load: float = 0.0
    """The greatest of the expected wait, the queued jobs and their seconds, each as a share of its limit (0 to 1)."""


class ModelBackend(Protocol):
    """Loads and stops one model or several, and says whether they can take sessions."""

    @property
    def readiness(self) -> Readiness: ...

    @property
    def depth(self) -> EngineDepth: ...

    async def start(self) -> None:
        """Load and warm every worker. Raises ModelLoadError if none can be loaded."""

    async def stop(self, timeout_s: float) -> None:
        """Stop the workers. Those that do not stop in time are killed."""

    def check_admission(self) -> None:
        """Raise Overloaded if no new session should be accepted."""


class InferenceEngine(ModelBackend, Protocol):
    """Runs one model for all sessions."""

    def submit(self, job: Job, deliver: DeliverOutcome) -> None:
        """Queue a job. Its outcome is always delivered, unless the session is released."""

    def cancel(self, session_id: str, job: JobId) -> None:
        """Cancel a job: no outcome follows. A running job continues, and its answer is ignored."""

    def release(self, session_id: str, stream: int | None = None) -> None:
        """Release a stream (None: the whole session): close its states. For a session, queued jobs are dropped."""
