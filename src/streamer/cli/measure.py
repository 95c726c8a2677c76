"""What `streamer check` measures: a model's answers, its pace at each batch size, and what follows for its settings."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelLoadError
from streamer.inference.calls import Item
from streamer.inference.card import ModelCard
from streamer.inference.engine import Engine
from streamer.inference.observer import Ended, EngineObserver
from streamer.inference.probe import Probed, probe
from streamer.models.loading import ModelSpec
from streamer.session.actions import Job, JobFailed, JobId, JobKind, Outcome, Output

SECONDS = 2.5
"""Length of each input: a short sentence."""
REPEATS = 5
BATCH_BUDGET_S = 3.0
"""For the calls of one batch size; two are made at least."""
GIL_FREE = 0.55
"""Share of a core left to other threads above which a model counts as one that releases the GIL: plain Python leaves
half of one, native code that holds it next to nothing."""
SHORT_CALL_S = 0.005
"""A call this short may hold the GIL: the interpreter would not switch threads sooner anyway."""
SERVER_S = 0.002
"""CPU seconds per second of stream that the serving process itself takes, rounded up from the project's benchmark."""
WORTHWHILE = 1.2
"""Gain in pace below which batching is not worth the wait for company."""
HEADROOM = 0.7
"""Of the pace measured, what live streams may take: arrivals are never even."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model made of one kind of input. `error` is empty where it worked."""

    input: str
    seconds: float
    output: str
    error: str


@dataclass(frozen=True, slots=True)
class Pace:
    """One batch size: `call_s` is the median over its calls."""

    size: int
    call_s: float

    @property
    def item_s(self) -> float:
        return self.call_s / self.size

    @property
    def rtf(self) -> float:
        """Seconds of work per second of audio."""
        return self.item_s / SECONDS


@dataclass(frozen=True, slots=True)
class Advice:
    """Settings that the measurements speak for; `streams`: of continuous speech, live, on this machine."""

    executor: str
    workers: int
    batch_size: int
    streams: int


@dataclass(frozen=True, slots=True)
class Findings:
    card: ModelCard
    probed: Probed | None
    probe_error: str
    answers: Sequence[Answered]
    paces: Sequence[Pace]
    cores: int

    @property
    def works(self) -> bool:
        return bool(self.paces) and not any(answer.error for answer in self.answers)

    @property
    def advice(self) -> Advice | None:
        """None where the model does not work."""
        if not self.works or self.probed is None:
            return None
        short = self.paces[0].call_s <= SHORT_CALL_S
        frees = self.probed.gil_free >= GIL_FREE
        workers = max(1, int(self.cores / max(1.0, round(self.probed.cores)))) if frees or not short else 1
        one, best = self.paces[0], min(self.paces, key=lambda pace: pace.item_s)
        near = [pace for pace in self.paces if pace.item_s <= best.item_s * 1.1]
        chosen = near[0] if one.item_s / best.item_s >= WORTHWHILE else one
        streams = HEADROOM * min(workers / max(chosen.rtf, 1e-9), 1 / SERVER_S)
        return Advice("thread" if frees or short else "process", workers, chosen.size, int(streams))


@dataclass(slots=True)
class _Calls(EngineObserver):
    """The durations of the batches, by size."""

    of: dict[int, list[float]] = field(default_factory=dict)

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, ended: Ended) -> None:
        if ended is Ended.ANSWERED:
            self.of.setdefault(len(jobs), []).append(seconds)


def inputs(rate: int) -> dict[str, Samples]:
    """Silence, noise and the packaged recording at `rate`: float32 [SECONDS * rate]."""
    import io

    import soundfile
    import soxr

    from streamer.samples import sample

    n = int(SECONDS * rate)
    speech, recorded = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    speech = soxr.resample(speech, recorded, rate)[:n]
    noise = np.random.default_rng(0).normal(0, 0.1, n).clip(-1, 1).astype(np.float32)
    return {"silence": np.zeros(n, np.float32), "noise": noise, "recording": speech.astype(np.float32)}


async def measure(spec: ModelSpec) -> Findings:
    """Run the model in its executor, one worker. Raises ModelLoadError or ConfigError where it cannot be loaded."""
    calls = _Calls()
    engine = Engine(spec, observer=calls, workers=1)
    card = engine.model
    material = inputs(card.sample_rate)
    await engine.start()
    runner = _Runner(engine)
    try:
        answers = [await _answer(runner, name, samples) for name, samples in material.items()]
        sizes = [] if answers[-1].error else _sizes(card.max_batch_size)
        tried = [await _pace(runner, calls, size, material["recording"]) for size in sizes]
    finally:
        await engine.stop(5.0)
    probed, why = await _probed(spec, card, material["recording"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Findings(card, probed, why, answers, [pace for pace in tried if pace is not None], cores)


def _sizes(most: int) -> list[int]:
    """1, 2, 4, ... and the largest."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


async def _answer(runner: _Runner, name: str, samples: Samples) -> Answered:
    began = asyncio.get_running_loop().time()
    [outcome] = await runner.run([samples])
    took = asyncio.get_running_loop().time() - began
    if isinstance(outcome, Output):
        return Answered(name, took, msgspec.json.encode(outcome.value).decode(), "")
    return Answered(name, took, "", outcome.message if isinstance(outcome, JobFailed) else "no answer")


async def _pace(runner: _Runner, calls: _Calls, size: int, samples: Samples) -> Pace | None:
    """None where no batch of this size was answered (the model's other limits forbid it, or it failed)."""
    calls.of.clear()
    loop = asyncio.get_running_loop()
    until = loop.time() + BATCH_BUDGET_S
    for repeat in range(REPEATS):
        await runner.run([samples] * size)
        if repeat and loop.time() > until:
            break
    durations = calls.of.get(size)
    return Pace(size, statistics.median(durations)) if durations else None


async def _probed(spec: ModelSpec, card: ModelCard, samples: Samples) -> tuple[Probed | None, str]:
    item = Item.of(_job(0, "probe", samples, card.sample_rate))
    timeout_s = 60.0 + 5 * card.timeout_s(SECONDS)
    try:
        return await asyncio.to_thread(partial(probe, spec, item, timeout_s)), ""
    except ModelLoadError as error:
        return None, error.message


class _Runner:
    """Puts jobs to the engine and waits for what comes of them; each from a session of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rounds = 0

    async def run(self, batch: Sequence[Samples]) -> list[Outcome]:
        self._rounds += 1
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[Outcome]] = []
        sessions = [f"check-{self._rounds}-{index}" for index in range(len(batch))]
        for session, samples in zip(sessions, batch, strict=True):
            future: asyncio.Future[Outcome] = loop.create_future()
            self._engine.submit(_job(0, session, samples, self._engine.model.sample_rate), partial(_take, future))
            waiting.append(future)
        outcomes = await asyncio.gather(*waiting)
        for session in sessions:
            self._engine.release(session)
        return list(outcomes)


def _take(future: asyncio.Future[Outcome], job: JobId, outcome: Outcome) -> None:  # noqa: ARG001 (the contract's)
    if not (isinstance(outcome, Output) and outcome.partial) and not future.done():
        future.set_result(outcome)


def _job(number: int, session: str, samples: Samples, rate: int) -> Job:
    return Job(number, session, 0, 0, 0, JobKind.FINAL, 0, samples, rate, b"{}")
