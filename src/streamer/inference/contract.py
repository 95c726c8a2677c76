"""What the conductor needs of whatever runs models. All methods are called on the event loop and never block it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamer.session.actions import Job, JobId, Outcome

Deliver = Callable[[JobId, Outcome], None]
"""Called on the event loop, once per job with a last outcome, before it any number of partial ones."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a model worker answers, and if not why, in words for an operator."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineDepth:
    """What waits and runs now."""

    pending_items: int
    pending_seconds: float
    running_items: int
    workers_idle: int
    workers_busy: int
    workers_down: int


class InferenceEngine(Protocol):
    """Runs one model for all sessions."""

    @property
    def readiness(self) -> Readiness: ...

    @property
    def depth(self) -> EngineDepth: ...

    async def start(self) -> None:
        """Load and warm every worker. Raises ModelLoadError where none can be."""

    async def stop(self, timeout_s: float) -> None:
        """Stop the workers: those that do not end in time are killed."""

    def check_admission(self) -> None:
        """Raise Overloaded where a new session should not be taken on."""

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Queue a job. Its outcome always comes, whatever happens to the worker, unless the session is released."""

    def cancel(self, session_id: str, job: JobId) -> None:
        """Its answer is not wanted: drop it if it waits (no outcome follows), ignore its answer if it runs."""

    def release(self, session_id: str, stream: int | None = None) -> None:
        """The stream (None: the session) is over. States are closed; for a whole session what waits is dropped."""
