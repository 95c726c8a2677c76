"""The user's side: what a model is. Two methods and a few numbers; a function is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """One item of a batch: audio to answer for.

    `samples`: float32 [n] in [-1, 1) at `sample_rate`, read-only. `start`: position of its first sample in the stream.
    `is_final`: False for an interim of speech that is still going on. `options`: what the client sent in its start.
    """

    samples: Samples
    sample_rate: int
    start: int
    is_final: bool
    session_id: str
    channel: int
    options: Mapping[str, Any]

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a streaming model learns when a stream's channel opens."""

    session_id: str
    channel: int
    sample_rate: int
    options: Mapping[str, Any]


Executor = Literal["thread", "process"]


class BaseModel:
    """Numbers that both kinds of model declare, read once by the engine.

    A constructor keeps parameters and may set numbers. It runs once per worker, and with worker processes once more in
    the server, so weights belong in `load`.
    """

    name: str = ""
    """Shown to clients and in metrics; the class's name where empty."""
    sample_rate: int = 16_000
    """Hz; the server resamples whatever the client sends."""
    max_batch_size: int = 1
    """Items per call at most."""
    max_batch_seconds: float = 120.0
    """Seconds of audio per call at most (one item always fits)."""
    max_batch_wait_ms: float = 5.0
    """How long an item may wait for company while a worker idles."""
    executor: Executor = "thread"
    """`thread` where the model releases the GIL; `process` where it does not, or may crash or hang."""
    workers: int = 1
    """Threads or processes, each with its own load()."""
    max_inflight: int = 4
    """Pieces of one channel that may run side by side on `simple` (a StreamingModel has one)."""
    timeout_floor_s: float = 10.0
    timeout_factor: float = 5.0
    """A call may last floor + factor * seconds of audio in its batch; after that its worker is killed (process)."""
    memory_limit_mb: int = 0
    """Resident memory of a worker process past which it is recycled between batches; 0: no limit."""

    def fetch(self) -> object:
        """Get the files that load() reads. `streamer serve` calls it once before any worker starts, for built-in models
        only: a download may last longer than load() may."""
        return None

    def load(self) -> None:
        """Read weights. Once per worker, before the server says ready."""

    def unload(self) -> None:
        """Let go of what load() took. Once per worker, at an orderly end."""

    def warm(self) -> None:
        """More warming than the engine's own call on silence, if a model wants it."""


class Model(BaseModel):
    """Independent pieces or segments: a batch in, one output (or exception, or generator) per item out, in order."""

    def infer(self, batch: Sequence[Segment]) -> Sequence[Any]:
        """Return one entry per item: a JSON-able value; an Exception (this item failed, its neighbours did not); an
        iterator, each of whose items becomes an interim and the last one the final; or an awaitable or async iterator
        of the same. The async entries of one call run together, on an event loop of this worker's."""
        raise NotImplementedError


class StreamingModel(BaseModel, Generic[StateT]):
    """The answer to one piece feeds the next. A state stays on its worker; a channel's pieces come singly, in order."""

    def open(self, info: StreamInfo) -> StateT:
        """A fresh state for one channel of one stream."""
        raise NotImplementedError

    def step(self, states: Sequence[StateT], batch: Sequence[Segment]) -> Sequence[tuple[StateT, Any]]:
        """Return (state, output) per item, in order; an output may be an Exception."""
        raise NotImplementedError

    def close(self, state: StateT) -> None:
        """The stream is over."""


AnyModel = Model | StreamingModel[Any]


class FunctionModel(Model):
    """A plain function of samples as a model; made by `@streamer.model`. Still callable as the function it was."""

    _function: Callable[[Samples], Any]

    def __init__(self, function: Callable[[Samples], Any], **settings: Any) -> None:
        self._function = function
        self.name = settings.pop("name", "") or getattr(function, "__name__", "model")
        self.__doc__ = function.__doc__
        for key, value in settings.items():
            setattr(self, key, value)

    def __call__(self, samples: Samples) -> Any:
        return self._function(samples)

    def infer(self, batch: Sequence[Segment]) -> Sequence[Any]:
        return [self._one(item) for item in batch]

    def _one(self, item: Segment) -> Any:
        try:
            return self._function(item.samples)
        except Exception as error:  # noqa: BLE001 (given to the engine as this item's answer, which counts and logs it)
            return error


SETTINGS: frozenset[str] = frozenset(
    name for name in vars(BaseModel) if not name.startswith("_") and not callable(getattr(BaseModel, name))
)


def model(**settings: Any) -> Callable[[Callable[[Samples], Any]], FunctionModel]:
    """Decorate a function `float32 [n] -> anything JSON` to make it a model.

    `settings` are the attributes of BaseModel (sample_rate, executor, workers, ...); an unknown one is a TypeError.
    """
    if unknown := settings.keys() - SETTINGS:
        raise TypeError(f"unknown model settings {sorted(unknown)}; known: {sorted(SETTINGS)}")

    def decorate(function: Callable[[Samples], Any]) -> FunctionModel:
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"@streamer.model decorates a function; {function!r} is none (a class subclasses Model)")
        return FunctionModel(function, **settings)

    return decorate


__all__ = [
    "AnyModel",
    "BaseModel",
    "Executor",
    "FunctionModel",
    "Model",
    "Segment",
    "StreamInfo",
    "StreamingModel",
    "model",
]
