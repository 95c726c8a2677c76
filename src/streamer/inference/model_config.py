"""The validated configuration of a model."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TypedDict

from streamer.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from streamer.errors import ModelLoadError, brief
from streamer.models.checking import check_model
from streamer.models.contract import (
    ASYNC_CALLS,
    AnyModel,
    Executor,
    FunctionModel,
    StreamingModel,
    WordTimes,
    WorkerRange,
)

MAX_LATENCY_MS = 5_000.0
"""Largest `latency_ms` and `overlap_ms` of a model."""
MAX_ITEMS = 4_096
"""Largest `max_batch_size` and `max_concurrent` of a model."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Configuration of a model; see `models.contract.BaseModel`. `stateful`: it is a StreamingModel."""

    name: str
    sample_rate: int
    stateful: bool
    max_batch_size: int
    max_batch_seconds: float
    max_batch_wait_ms: float
    executor: Executor
    workers: int
    """Most workers."""
    min_workers: int
    max_inflight: int
    timeout_floor_s: float
    timeout_factor: float
    memory_limit_mb: int
    output_sample_rate: int = 0
    output_channels: int = 1
    latency_ms: float = 0.0
    overlap_ms: float = 0.0
    word_times: WordTimes = ""
    known_options: tuple[str, ...] = ()
    max_concurrent: int = 0
    """Maximum items of a worker at a time, in overlapping calls; 0: one call at a time."""

    @classmethod
    def of(cls, model: AnyModel) -> ModelConfig:
        """Read and validate a model's methods and attributes. Raises ModelLoadError, naming what is wrong."""
        check_model(model)
        name = model.name or type(model).__name__
        if model.executor not in ("thread", "process", "ray"):
            raise _config_error(name, "executor", "'thread', 'process' or 'ray'", model.executor)
        if model.word_times not in ("", "model", "estimated"):
            raise _config_error(name, "word_times", "'model', 'estimated' or ''", model.word_times)
        stateful = isinstance(model, StreamingModel)
        low, high = _workers(name, model.workers)
        max_batch_size, max_concurrent = _items(name, model)
        return cls(
            name=name,
            sample_rate=_whole(name, "sample_rate", model.sample_rate, 4_000, 192_000),
            stateful=stateful,
            max_batch_size=max_batch_size,
            max_concurrent=max_concurrent,
            max_batch_seconds=_number(name, "max_batch_seconds", model.max_batch_seconds, 0.001),
            max_batch_wait_ms=_number(name, "max_batch_wait_ms", model.max_batch_wait_ms),
            executor=model.executor,
            workers=high,
            min_workers=low,
            max_inflight=1 if stateful else _whole(name, "max_inflight", model.max_inflight, 1, 1_000),
            timeout_floor_s=_number(name, "timeout_floor_s", model.timeout_floor_s, 0.001),
            timeout_factor=_number(name, "timeout_factor", model.timeout_factor),
            memory_limit_mb=_whole(name, "memory_limit_mb", model.memory_limit_mb, 0, 2**30),
            word_times=model.word_times,
            known_options=_names(name, "known_options", model.known_options),
            **_output(name, model, stateful=stateful),
        )

    def timeout_s(self, seconds: float) -> float:
        """Return the time-out of a call on `seconds` of audio."""
        return self.timeout_floor_s + self.timeout_factor * seconds


def _workers(name: str, workers: int | WorkerRange) -> tuple[int, int]:
    if not isinstance(workers, WorkerRange):
        number = _whole(name, "workers", workers, 1, 256)
        return number, number
    high = _whole(name, "workers.max", workers.max, 1, 256)
    return _whole(name, "workers.min", workers.min, 1, high), high


def _items(name: str, model: AnyModel) -> tuple[int, int]:
    """Return the maximum items of a call, and of all calls of a worker at a time (0: one call at a time)."""
    size = _whole(name, "max_batch_size", model.max_batch_size, 1, MAX_ITEMS)
    concurrent = _whole(name, "max_concurrent", model.max_concurrent, 0, MAX_ITEMS)
    if concurrent and isinstance(model, StreamingModel):
        raise _config_error(name, "max_concurrent", "0 for a StreamingModel, whose steps are in order", concurrent)
    if concurrent and model.executor == "ray":
        raise _config_error(name, "max_concurrent", "0 with executor 'ray', whose calls do not overlap", concurrent)
    if isinstance(model, StreamingModel) or model.executor == "ray":
        return size, 0
    if isinstance(model, FunctionModel):
        if inspect.iscoroutinefunction(model.function) or inspect.isasyncgenfunction(model.function):
            return 1, concurrent or size  # a call of a function has one item
    elif inspect.iscoroutinefunction(model.infer):
        return size, concurrent or max(ASYNC_CALLS, size)
    return size, concurrent


class _Output(TypedDict):
    """The attributes of a model that answers with audio."""

    output_sample_rate: int
    output_channels: int
    latency_ms: float
    overlap_ms: float


def _output(name: str, model: AnyModel, *, stateful: bool) -> _Output:
    rate = model.output_sample_rate
    if rate != 0:
        rate = _whole(name, "output_sample_rate", rate, MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
    output = _Output(
        output_sample_rate=rate,
        output_channels=_whole(name, "output_channels", model.output_channels, 1, MAX_CHANNELS),
        latency_ms=_number(name, "latency_ms", model.latency_ms, 0.0, MAX_LATENCY_MS),
        overlap_ms=_number(name, "overlap_ms", model.overlap_ms, 0.0, MAX_LATENCY_MS),
    )
    if output["latency_ms"] and not stateful:
        raise _config_error(name, "latency_ms", "0 for a Model, whose pieces are independent", model.latency_ms)
    if output["overlap_ms"] and stateful:
        raise _config_error(name, "overlap_ms", "0 for a StreamingModel, whose state has the past", model.overlap_ms)
    return output


def _whole(name: str, field: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _config_error(name, field, f"an integer from {low} to {high}", value)
    return value


def _number(name: str, field: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value == math.inf:
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise _config_error(name, field, f"a number of at least {low:g}{upper}", value)
    return float(value)


def _names(name: str, field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or not all(isinstance(each, str) for each in value):
        raise _config_error(name, field, "a tuple of text", value)
    return tuple(value)


def _config_error(name: str, field: str, expected: str, got: object) -> ModelLoadError:
    return ModelLoadError(f"model {brief(name)}: {field}: expected {expected}, got {brief(got)}")
