"""From what a model returns to JSON: numpy welcome, whatever is not JSON named, sizes bounded."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ErrorCode, ModelFailed, StreamerError
from streamer.inference.calls import Answer, Fault

FAILED = "the model failed on this segment"
UNCAUGHT = "Internal server error"
"""What a client reads where the model's own error left a call: nothing of it."""

MAX_DETAIL = 4_000

_END = object()
_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})
"""What most models return. To find out that it is no iterator and cannot be awaited takes longer than to encode it."""


def to_json(value: object, max_bytes: int) -> bytes:
    """`value` as JSON: what msgspec knows (dataclasses, structs, datetimes, ...) and numpy; NaN becomes null.

    Raises ModelFailed naming what is not JSON, or how many bytes it is where that is more than `max_bytes`.
    """
    try:
        encoded = _ENCODER.encode(value)
    except Exception as error:
        raise ModelFailed(f"the model's output is not JSON: {_first_line(error)}") from error
    if len(encoded) > max_bytes:
        raise ModelFailed(f"the model's output has {len(encoded)} bytes, more than {max_bytes}")
    return encoded


def _numpy(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a value of type {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_numpy)


def fault_of(error: BaseException, message: str = FAILED) -> Fault:
    """The client-safe side and the log's side of an error in the model."""
    detail = "".join(traceback.format_exception(error))[-MAX_DETAIL:]
    if isinstance(error, StreamerError):
        return Fault(error.code, error.message, detail)
    return Fault(ErrorCode.MODEL_ERROR, message, detail)


class Outputs:
    """Turns the outputs of one call into answers; iterators yield theirs in turn, one item each a round."""

    def __init__(self, max_bytes: int, max_partials: int) -> None:
        self._max_bytes = max_bytes
        self._max_partials = max_partials
        self._loop: asyncio.AbstractEventLoop | None = None

    def answers(self, outputs: Sequence[Any]) -> Iterator[tuple[list[Answer], bool]]:
        """Answers as they become known, and whether that is all; one last answer per output."""
        known: list[Answer] = []
        live: deque[_Live] = deque()
        for index, output in enumerate(outputs):
            if type(output) not in _PLAIN and isinstance(output, Iterator | AsyncIterator):
                live.append(_Live(index, self._puller(output)))
            else:
                known.append(self._last(index, output))
        if known or not live:
            yield known, not live
        while live:
            one = live.popleft()
            answer = self._advance(one)
            if answer is None or answer.partial:
                live.append(one)
            if answer is not None:
                yield [answer], not live

    def close(self) -> None:
        """Close the private event loop, where an async generator needed one."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _advance(self, one: _Live) -> Answer | None:
        """Take one item from an iterator. Which one is the last is known only when the next is asked for."""
        try:
            item = one.pull()
            if item is _END:
                return self._last(one.index, one.held if one.held is not _END else None)
            held, one.held = one.held, item
            if held is _END:
                return None
            one.count += 1
            if one.count > self._max_partials:
                raise ModelFailed(f"the model yielded more than {self._max_partials} outputs for one segment")
            return Answer(one.index, to_json(held, self._max_bytes), partial=True)
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return Answer(one.index, fault=fault_of(error))

    def _last(self, index: int, output: object) -> Answer:
        if isinstance(output, BaseException):
            return Answer(index, fault=fault_of(output))
        try:
            if type(output) not in _PLAIN and inspect.isawaitable(output):
                output = self._run(output)
            return Answer(index, to_json(output, self._max_bytes))
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return Answer(index, fault=fault_of(error))

    def _puller(self, output: Iterator[Any] | AsyncIterator[Any]) -> Callable[[], object]:
        if isinstance(output, Iterator):
            return lambda: next(output, _END)
        return lambda: self._run(_next(output))

    def _run(self, awaitable: Any) -> object:
        """Await on a loop of the worker's own."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(awaitable)


class _Live:
    """An iterator under way, and the item of it that is not sent yet."""

    __slots__ = ("count", "held", "index", "pull")

    def __init__(self, index: int, pull: Callable[[], object]) -> None:
        self.index = index
        self.pull = pull
        self.held: object = _END
        self.count = 0


async def _next(iterator: AsyncIterator[Any]) -> object:
    return await anext(iterator, _END)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
