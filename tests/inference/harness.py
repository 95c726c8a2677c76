"""What the engine tests share: jobs by the line, outcomes collected, models made on the spot, an engine with an end."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from streamer.inference.engine import Engine
from streamer.inference.observer import EngineObserver
from streamer.inference.settings import EngineSettings
from streamer.models.contract import AnyModel
from streamer.session.actions import Job, JobKind, Output

PATIENCE_S = 20.0


@dataclass(frozen=True)
class ModelFactory:
    """A model source in this process; each worker gets what `make` returns."""

    make: Callable[[], AnyModel]

    def load(self) -> AnyModel:
        return self.make()


def job(
    number=0,
    session="s",
    *,
    stream=0,
    channel=0,
    kind=JobKind.FINAL,
    segment=0,
    start=0,
    n=160,
    value=0.0,
    options=b"{}",
):
    samples = np.full(n, value, np.float32)
    return Job(number, session, stream, channel, segment, kind, start, samples, 16_000, options)


class Outcomes:
    """Collects what is delivered, by (session, job)."""

    def __init__(self):
        self.of = defaultdict(list)
        self._news = asyncio.Event()

    def taker(self, session="s"):
        def take(number, outcome):
            self.of[session, number].append(outcome)
            self._news.set()

        return take

    def submit(self, engine, job):
        engine.submit(job, self.taker(job.session_id))

    def last(self, number=0, session="s"):
        """The last outcome, or None while it is not there."""
        outcomes = self.of[session, number]
        return outcomes[-1] if outcomes and not (isinstance(outcomes[-1], Output) and outcomes[-1].partial) else None

    async def wait(self, number=0, session="s"):
        return (await self.wait_all([(session, number)]))[0]

    async def wait_all(self, keys):
        async with asyncio.timeout(PATIENCE_S):
            while not all(self.last(number, session) is not None for session, number in keys):
                self._news.clear()
                await self._news.wait()
        return [self.last(number, session) for session, number in keys]


class Recorder(EngineObserver):
    """Keeps what the engine tells, and lets a test wait for it."""

    def __init__(self):
        self.batches = []
        self.finished = []
        self.failed = []
        self.dropped = []
        self.started = []
        self.lost = []
        self._news = asyncio.Event()

    def batch_started(self, worker, jobs, waits):
        self.batches.append((worker, [(job.session_id, job.id) for job in jobs]))
        self._news.set()

    def batch_finished(self, worker, jobs, seconds, ended):
        self.finished.append((worker, len(jobs), ended))
        self._news.set()

    def job_failed(self, job, code):
        self.failed.append((job.session_id, job.id, code))

    def interim_dropped(self, job, cause):
        self.dropped.append((job.session_id, job.id, cause))

    def worker_started(self, worker, seconds):
        self.started.append(worker)
        self._news.set()

    def worker_lost(self, worker, cause):
        self.lost.append((worker, cause))
        self._news.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(source, settings=None, *, observer=None, stop_s=5.0):
    engine = Engine(
        source if not callable(source) else ModelFactory(source), settings or EngineSettings(), observer=observer
    )
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(stop_s)


async def until(condition):
    """Wait, bounded, for what nothing announces."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
