"""Fake implementations of the interfaces, which a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples, decode_samples
from streamer.errors import Overloaded
from streamer.inference.contract import DeliverOutcome, EngineDepth, Readiness
from streamer.session.actions import Job, JobId, Outcome, Output
from streamer.vad.scorer import Row

Probabilities = NDArray[np.float32]
WINDOW = 512


def loudness(samples: NDArray[np.float32]) -> Probabilities:
    """Score signals: 1 for a loud window, else 0."""
    loudest: NDArray[np.float32] = np.abs(samples).reshape(-1, WINDOW).max(axis=1)
    return (loudest > 0.01).astype(np.float32)


class ScriptedScoring:
    """Speech scorer that answers with `score` of the samples, in the next loop iteration or after `is_holding` ends."""

    def __init__(self, score: Callable[[NDArray[np.float32]], Probabilities] = loudness) -> None:
        self._score = score
        self._next: Row = 0
        self.rows: dict[Row, Callable[[Sequence[float]], None]] = {}
        self.resets = 0
        self.on_failure: Callable[[BaseException], None] | None = None
        self.is_holding = False
        self.waiting: list[Callable[[], None]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def open(self, deliver: Callable[[Sequence[float]], None]) -> Row:
        self._next += 1
        self.rows[self._next] = deliver
        return self._next

    def close(self, row: Row) -> None:
        del self.rows[row]

    def reset(self, row: Row) -> None:
        assert row in self.rows
        self.resets += 1

    def submit(self, row: Row, samples: AudioSamples) -> None:
        assert row in self.rows

        def answer() -> None:
            if row in self.rows:
                self.rows[row](self._score(decode_samples(samples)).tolist())

        if self.is_holding:
            self.waiting.append(answer)
        else:
            asyncio.get_running_loop().call_soon(answer)

    def release_all(self) -> None:
        """Send the held answers."""
        waiting, self.waiting = self.waiting, []
        for answer in waiting:
            answer()


def count_samples(job: Job) -> Outcome:
    """Return the output of the stub model."""
    return Output.of({"count": len(job.samples)})


class ScriptedEngine:
    """Inference engine that answers with `answer` of the job, in the next loop iteration or after `is_holding` ends."""

    def __init__(self, answer: Callable[[Job], Outcome] = count_samples) -> None:
        self._answer = answer
        self.readiness = Readiness(True)
        self.refuse_admission: Overloaded | None = None
        self.is_holding = False
        self.jobs: dict[tuple[str, JobId], tuple[Job, DeliverOutcome]] = {}
        self.submitted: list[Job] = []
        self.cancelled: list[tuple[str, JobId]] = []
        self.released: list[tuple[str, int | None]] = []

    @property
    def depth(self) -> EngineDepth:
        seconds = sum(job.seconds for job, _ in self.jobs.values())
        return EngineDepth(len(self.jobs), seconds, 0, 1, 0, 0)

    async def start(self) -> None: ...

    async def stop(self, timeout_s: float) -> None: ...

    def check_admission(self) -> None:
        if self.refuse_admission is not None:
            raise self.refuse_admission

    def submit(self, job: Job, deliver: DeliverOutcome) -> None:
        key = (job.session_id, job.id)
        self.submitted.append(job)
        self.jobs[key] = (job, deliver)
        if not self.is_holding:
            asyncio.get_running_loop().call_soon(self._deliver, key)

    def cancel(self, session_id: str, job: JobId) -> None:
        self.cancelled.append((session_id, job))
        self.jobs.pop((session_id, job), None)

    def release(self, session_id: str, stream: int | None = None) -> None:
        self.released.append((session_id, stream))
        if stream is None:
            self.jobs = {key: value for key, value in self.jobs.items() if key[0] != session_id}

    def release_all(self) -> None:
        """Send the held answers."""
        for key in tuple(self.jobs):
            self._deliver(key)

    def _deliver(self, key: tuple[str, JobId]) -> None:
        if (waiting := self.jobs.pop(key, None)) is not None:
            job, deliver = waiting
            deliver(job.id, self._answer(job))
