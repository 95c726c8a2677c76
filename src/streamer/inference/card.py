"""The validated configuration of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamer.errors import ModelLoadError, brief
from streamer.models.contract import AnyModel, Executor, StreamingModel, WordTimes


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Configuration of a model; see `models.contract.BaseModel`. `stateful`: it is a StreamingModel."""

    name: str
    sample_rate: int
    stateful: bool
    max_batch_size: int
    max_batch_seconds: float
    max_batch_wait_ms: float
    executor: Executor
    workers: int
    max_inflight: int
    timeout_floor_s: float
    timeout_factor: float
    memory_limit_mb: int
    word_times: WordTimes = ""

    @classmethod
    def of(cls, model: AnyModel) -> ModelCard:
        """Read and validate a model's attributes. Raises ModelLoadError, naming one that is out of range."""
        name = model.name or type(model).__name__
        if model.executor not in ("thread", "process"):
            raise _wrong(name, "executor", "'thread' or 'process'", model.executor)
        if model.word_times not in ("", "model", "estimated"):
            raise _wrong(name, "word_times", "'model', 'estimated' or ''", model.word_times)
        stateful = isinstance(model, StreamingModel)
        return cls(
            name=name,
            sample_rate=_whole(name, "sample_rate", model.sample_rate, 4_000, 192_000),
            stateful=stateful,
            max_batch_size=_whole(name, "max_batch_size", model.max_batch_size, 1, 4_096),
            max_batch_seconds=_number(name, "max_batch_seconds", model.max_batch_seconds, 0.001),
            max_batch_wait_ms=_number(name, "max_batch_wait_ms", model.max_batch_wait_ms),
            executor=model.executor,
            workers=_whole(name, "workers", model.workers, 1, 256),
            max_inflight=1 if stateful else _whole(name, "max_inflight", model.max_inflight, 1, 1_000),
            timeout_floor_s=_number(name, "timeout_floor_s", model.timeout_floor_s, 0.001),
            timeout_factor=_number(name, "timeout_factor", model.timeout_factor),
            memory_limit_mb=_whole(name, "memory_limit_mb", model.memory_limit_mb, 0, 2**30),
            word_times=model.word_times,
        )

    def timeout_s(self, seconds: float) -> float:
        """Return the time-out of a call on `seconds` of audio."""
        return self.timeout_floor_s + self.timeout_factor * seconds


def _whole(name: str, field: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _wrong(name, field, f"an integer from {low} to {high}", value)
    return value


def _number(name: str, field: str, value: object, low: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
        raise _wrong(name, field, f"a number of at least {low:g}", value)
    return float(value)


def _wrong(name: str, field: str, expected: str, got: object) -> ModelLoadError:
    return ModelLoadError(f"model {brief(name)}: {field}: expected {expected}, got {brief(got)}")
