"""Measurements of `streamer check`: a model's outputs, its speed at each batch size, and recommended settings."""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.errors import ModelLoadError
from streamer.inference.engine import Engine
from streamer.inference.model_config import ModelConfig
from streamer.inference.observer import CallOutcome, EngineObserver
from streamer.inference.process_profile import ProcessProfile, profile_in_process
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.inference.worker_protocol import InferenceItem
from streamer.models.loading import ModelSpec
from streamer.session.actions import Job, JobFailed, JobId, JobKind, Outcome, Output

SECONDS = 2.5
"""Length of each input in seconds: a short sentence."""
REPEATS = 5
BATCH_BUDGET_S = 3.0
"""Time in seconds for the calls of one batch size; at least two are made."""
GIL_FREE = 0.55
"""Share of a core left to other threads above which a model counts as releasing the GIL: pure Python leaves half of
one, native code that holds it almost nothing."""
SHORT_CALL_S = 0.005
"""Duration in seconds up to which a call may hold the GIL: the interpreter would not switch threads sooner anyway."""
SERVER_S = 0.002
"""CPU seconds per second of stream of the server process itself, rounded up from the project's benchmark."""
WORTHWHILE = 1.2
"""Gain of batching below which it is not worth the wait."""
HEADROOM = 0.7
"""Share of the measured speed that live streams may use, because arrivals are uneven."""

_SETTINGS = EngineSettings(first_call_timeout_s=0.001)
"""A call that outlasts the model's own time-out is reported, and the first one is a call like the others."""

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """The model's output for one kind of input. `error` and `traceback` are for its author; empty on success."""

    input: str
    seconds: float
    output: str
    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class BatchTiming:
    """Timing of one batch size: `call_s` is the median of its calls."""

    size: int
    call_s: float

    @property
    def item_s(self) -> float:
        return self.call_s / self.size

    @property
    def rtf(self) -> float:
        """Seconds of processing per second of audio."""
        return self.item_s / SECONDS


@dataclass(frozen=True, slots=True)
class RecommendedSettings:
    """Recommended settings; `streams`: live streams of continuous speech on this machine."""

    executor: str
    workers: int
    batch_size: int
    streams: int


@dataclass(frozen=True, slots=True)
class ModelProfile:
    config: ModelConfig
    process: ProcessProfile | None
    probe_error: str
    answers: Sequence[SampleAnswer]
    timings: Sequence[BatchTiming]
    cores: int

    @property
    def is_working(self) -> bool:
        return bool(self.timings) and not any(answer.error for answer in self.answers)

    @property
    def recommendation(self) -> RecommendedSettings | None:
        """Recommended settings; None if the model does not work."""
        if not self.is_working or self.process is None:
            return None
        short = self.timings[0].call_s <= SHORT_CALL_S
        frees = self.process.gil_free >= GIL_FREE
        workers = max(1, int(self.cores / max(1.0, round(self.process.cores)))) if frees or not short else 1
        one, best = self.timings[0], min(self.timings, key=lambda pace: pace.item_s)
        near = [pace for pace in self.timings if pace.item_s <= best.item_s * 1.1]
        chosen = near[0] if one.item_s / best.item_s >= WORTHWHILE else one
        calls = max(1, self.config.max_concurrent // chosen.size)  # at a time
        streams = HEADROOM * min(workers * calls / max(chosen.rtf, 1e-9), 1 / SERVER_S)
        executor = "thread" if frees or short else "process"
        if self.config.executor == "ray":  # a decision about machines, which is not ours
            executor = "ray"
        return RecommendedSettings(executor, workers, chosen.size, int(streams))


@dataclass(slots=True)
class _Calls(EngineObserver):
    """Durations of the batches, by size."""

    durations: dict[int, list[float]] = field(default_factory=dict)

    def batch_finished(self, worker: int, jobs: Sequence[Job], seconds: float, outcome: CallOutcome) -> None:
        if outcome is CallOutcome.ANSWERED:
            self.durations.setdefault(len(jobs), []).append(seconds)


def inputs(rate: int) -> dict[str, Samples]:
    """Return silence, noise and the packaged recording at `rate`: float32 [SECONDS * rate]."""
    import io

    import soundfile
    import soxr

    from streamer.samples import sample

    n = int(SECONDS * rate)
    speech, recorded = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    speech = soxr.resample(speech, recorded, rate)[:n]
    noise = np.random.default_rng(0).normal(0, 0.1, n).clip(-1, 1).astype(np.float32)
    return {"silence": np.zeros(n, np.float32), "noise": noise, "recording": speech.astype(np.float32)}


async def profile_model(spec: ModelSpec, ray: RaySettings | None = None) -> ModelProfile:
    """Measure the model in its executor, with one worker. `ray`: the cluster, if the executor is `ray`.

    Raises ModelLoadError or ConfigError if it cannot be loaded.
    """
    calls, faults = _Calls(), _LoggedErrors()
    engine = Engine(spec, _SETTINGS, observer=calls, workers=1, log=faults.logger, ray=ray)
    config = engine.model
    material = inputs(config.sample_rate)
    await engine.start()
    runner = _Runner(engine)
    try:
        answers = [await _answer(runner, faults, name, samples) for name, samples in material.items()]
        sizes = [] if answers[-1].error else _sizes(config.max_batch_size)
        timings = [await _time_batch(runner, calls, size, material["recording"]) for size in sizes]
    finally:
        await engine.stop(5.0)
    works = all(answer.error == "" for answer in answers)
    probed, why = await _profile_process(spec, config, material["recording"]) if works else (None, "not measured")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ModelProfile(config, probed, why, answers, [pace for pace in timings if pace is not None], cores)


def _sizes(max_size: int) -> list[int]:
    """Return 1, 2, 4, ... and the largest."""
    return sorted({max_size, *(2**power for power in range(max_size.bit_length()))})


class _LoggedErrors(logging.Handler):
    """Keeps the engine's latest error of a job, as its author should read it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = self.traceback = ""
        self.logger = logging.Logger("check")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.line, detail = getattr(record, "line", ""), getattr(record, "detail", "")
        self.traceback = "" if detail == self.line else detail

    def take(self) -> tuple[str, str]:
        error = self.line, self.traceback
        self.line = self.traceback = ""
        return error


async def _answer(runner: _Runner, faults: _LoggedErrors, name: str, samples: Samples) -> SampleAnswer:
    started_at = asyncio.get_running_loop().time()
    [outcome] = await runner.run([samples])
    took = asyncio.get_running_loop().time() - started_at
    if isinstance(outcome, Output):
        return SampleAnswer(name, took, msgspec.json.encode(outcome.value).decode(), "")
    line, traceback = faults.take()
    message = outcome.message if isinstance(outcome, JobFailed) else "no answer"
    return SampleAnswer(name, took, "", line or message, traceback)


async def _time_batch(runner: _Runner, calls: _Calls, size: int, samples: Samples) -> BatchTiming | None:
    """Time a batch size; return None if no batch of it succeeded (another limit of the model, or an error)."""
    calls.durations.clear()
    loop = asyncio.get_running_loop()
    until = loop.time() + BATCH_BUDGET_S
    for repeat in range(REPEATS):
        await runner.run([samples] * size)
        if repeat and loop.time() > until:
            break
    durations = calls.durations.get(size)
    return BatchTiming(size, statistics.median(durations)) if durations else None


async def _profile_process(spec: ModelSpec, config: ModelConfig, samples: Samples) -> tuple[ProcessProfile | None, str]:
    item = InferenceItem.of(_job(0, "probe", samples, config.sample_rate))
    timeout_s = 60.0 + 5 * config.timeout_s(SECONDS)
    try:
        return await asyncio.to_thread(partial(profile_in_process, spec, item, timeout_s)), ""
    except ModelLoadError as error:
        return None, error.message


class _Runner:
    """Submits jobs to the engine and awaits their outcomes; each from its own session."""

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


def _take(future: asyncio.Future[Outcome], job: JobId, outcome: Outcome) -> None:  # noqa: ARG001 (the signature of the interface)
    if not (isinstance(outcome, Output) and outcome.partial) and not future.done():
        future.set_result(outcome)


def _job(job_id: int, session: str, samples: Samples, rate: int) -> Job:
    return Job(job_id, session, 0, 0, 0, JobKind.FINAL, 0, samples, rate, b"{}")
