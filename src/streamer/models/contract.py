"""The model interface: two methods and a few attributes; a function is enough."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True, eq=False)
class AudioSegment:
    """One item of a batch: a range of audio.

    `samples`: float32 [n] in [-1, 1) at `sample_rate`, read-only. `start`: position of its first sample in the stream.
    `is_final`: False for an interim. `options`: JSON object of the client's start message. `overlap`: number of samples
    at the beginning that belong to the previous piece, see `BaseModel.overlap_ms`.
    """

    samples: Samples
    sample_rate: int
    start: int
    is_final: bool
    session_id: str
    channel: int
    options: Mapping[str, Any]
    overlap: int = 0

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Information for a streaming model about a channel of a stream."""

    session_id: str
    channel: int
    sample_rate: int
    options: Mapping[str, Any]


class AudioOut:
    """Audio as the output of a model, or as a value in a dict beside JSON.

    `samples`: float32 [n] or [channels, n] in [-1, 1]. `sample_rate`: the model's `output_sample_rate` in Hz. A
    generator yields audio piece by piece.
    """

    __slots__ = ("sample_rate", "samples")  # not a dataclass, which would be encoded as JSON

    def __init__(self, samples: NDArray[np.floating], sample_rate: int) -> None:
        self.samples = samples
        self.sample_rate = sample_rate

    def __repr__(self) -> str:
        return f"AudioOut({np.shape(self.samples)}, {self.sample_rate})"


Executor = Literal["thread", "process", "ray"]
WordTimes = Literal["", "model", "estimated"]


@dataclass(frozen=True, slots=True)
class WorkerRange:
    """Number of workers, which follows the load."""

    min: int
    max: int


class BaseModel:
    """Attributes of both kinds of models, read once by the engine.

    Store parameters in the constructor and load weights in `load`. The constructor runs once per worker; with worker
    processes it also runs once in the server.
    """

    name: str = ""
    """Name for clients and metrics; default: the name of the class."""
    sample_rate: int = 16_000
    """Sample rate in Hz; the server resamples the client's audio."""
    max_batch_size: int = 1
    """Maximum items per call."""
    max_batch_seconds: float = 120.0
    """Maximum seconds of audio per call (one item always fits)."""
    max_concurrent: int = 0
    """Maximum items of a worker at a time, over all calls of an async model, which overlap. 0: `max_batch_size` for an
    `async def` function (32 unless it is set), at least 32 for an `async def infer`, no overlap for the rest."""
    max_batch_wait_ms: float = 5.0
    """Maximum wait of an item for others while a worker is idle."""
    executor: Executor = "thread"
    """`thread` for a model that releases the GIL; `process` for one that does not, or that may crash or hang;
    `ray` for one on other machines."""
    workers: int | WorkerRange = 1
    """Number of threads, processes or actors, each with its own load(); or `{"min": 1, "max": 4}`, which follows the
    expected wait."""
    max_inflight: int = 4
    """Concurrent pieces of one channel on `simple` (always 1 for a StreamingModel)."""
    timeout_floor_s: float = 10.0
    timeout_factor: float = 5.0
    """Time-out of a call: floor + factor * seconds of audio in its batch. A worker process is killed after it."""
    memory_limit_mb: int = 0
    """Resident memory of a worker process above which it is replaced between batches; 0: no limit."""
    output_sample_rate: int = 0
    """Sample rate in Hz of the audio that the model answers with; 0: it answers without audio."""
    output_channels: int = 1
    """Channels of that audio, for each channel of the input."""
    latency_ms: float = 0.0
    """Delay of a StreamingModel's output against its input. The server removes it: the first `latency_ms` of output
    are dropped, and silence of that length follows the end of a stream."""
    overlap_ms: float = 0.0
    """Audio of the previous piece that each piece of `simple` begins with, so that a Model's pieces can run side by
    side. The answer covers it too, and the server fades from one answer to the next over it."""
    word_times: WordTimes = ""
    """Source of the times of words in a Transcript: the `model`, or `estimated` from the lengths of the words by the
    reader. Empty: the model returns no Transcript, and no dialects are served."""
    known_options: tuple[str, ...] = ()
    """Names of the options that the model reads. Dialects pass parameters of these names on, and tell their clients
    that the others have no effect."""

    def fetch(self) -> object:
        """Get the files that load() reads.

        `streamer serve` calls it once before any worker starts, because a download may take longer than the time-out of
        load(). It is called for built-in models only.
        """
        return None

    def load(self) -> None:
        """Load weights, once per worker, before the server is ready."""

    def unload(self) -> None:
        """Free the resources of load(), once per worker, at an orderly end."""

    def warm(self) -> None:
        """Warm up more than the engine's own call on silence, if needed."""


class Model(BaseModel):
    """A model for independent pieces or segments: a batch in, one output (or exception, or generator) per item out."""

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any] | Awaitable[Sequence[Any]]:
        """Return one entry per item, in order. May be `async def`.

        An entry is a JSON-able value; an Exception (only this item failed); an iterator, whose items become interims
        and the last one the final; or an awaitable or async iterator of the same. Async entries of one call run
        concurrently, on the worker's event loop. With `async def`, or with a `max_concurrent`, the calls overlap, too.
        """
        raise NotImplementedError


class StreamingModel(BaseModel, Generic[StateT]):
    """A model with a state per channel.

    A state stays on its worker; pieces of a channel arrive one at a time, in order.
    """

    def open(self, info: StreamInfo) -> StateT:
        """Return a new state for one channel of one stream."""
        raise NotImplementedError

    def step(self, states: Sequence[StateT], batch: Sequence[AudioSegment]) -> Sequence[tuple[StateT, Any]]:
        """Return (state, output) per item, in order; an output may be an Exception."""
        raise NotImplementedError

    def close(self, state: StateT) -> None:
        """Close the state of a stream that has ended."""


AnyModel = Model | StreamingModel[Any]


class FunctionModel(Model):
    """A function of samples as a model; created by `@streamer.model`. It can still be called as a function."""

    def __init__(self, function: Callable[[Samples], Any], **settings: Any) -> None:
        self.function = function
        self.name = settings.pop("name", "") or getattr(function, "__name__", "model")
        self.__doc__ = function.__doc__
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            self.max_batch_size = ASYNC_CALLS
        for key, value in settings.items():
            setattr(self, key, value)

    def __call__(self, samples: Samples) -> Any:
        return self.function(samples)

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        return [self._one(item) for item in batch]

    def _one(self, item: AudioSegment) -> Any:
        try:
            output = self.function(item.samples)
            if self.output_sample_rate and isinstance(output, np.ndarray):
                return AudioOut(output, self.output_sample_rate)
            return output
        except Exception as error:  # noqa: BLE001 (returned as this item's answer, which the engine counts and logs)
            return error


ASYNC_CALLS = 32
"""Default number of concurrent calls of an `async def` model: they wait for something else, so they run together."""

SETTINGS: frozenset[str] = frozenset(
    name for name in vars(BaseModel) if not name.startswith("_") and not callable(getattr(BaseModel, name))
)


@overload
def model(function: Callable[[Samples], Any], /) -> FunctionModel: ...


@overload
def model(**settings: Any) -> Callable[[Callable[[Samples], Any]], FunctionModel]: ...


def model(
    function: Callable[[Samples], Any] | None = None, /, **settings: Any
) -> FunctionModel | Callable[[Callable[[Samples], Any]], FunctionModel]:
    """Decorate a function `float32 [n] -> anything JSON` to make it a model: `@model`, or `@model(sample_rate=8_000)`.

    With `output_sample_rate`, an array that the function returns is audio, like `AudioOut`.

    `settings` are the attributes of BaseModel (sample_rate, executor, workers, ...); an unknown one is a TypeError.
    """
    if unknown := settings.keys() - SETTINGS:
        raise TypeError(f"unknown model settings {sorted(unknown)}; known: {sorted(SETTINGS)}")

    def decorate(function: Callable[[Samples], Any]) -> FunctionModel:
        if isinstance(function, type) or not callable(function):
            raise TypeError(
                f"@streamer.model: expected a function, got {function!r} (a class derives from streamer.Model)"
            )
        return FunctionModel(function, **settings)

    return decorate if function is None else decorate(function)


__all__ = [
    "AnyModel",
    "AudioOut",
    "AudioSegment",
    "BaseModel",
    "Executor",
    "FunctionModel",
    "Model",
    "StreamInfo",
    "StreamingModel",
    "WorkerRange",
    "model",
]
