"""Conversion of model outputs to JSON: supports numpy, bounds sizes, and names values that are not JSON."""

from __future__ import annotations

import asyncio
import inspect
import re
import traceback
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ErrorCode, ModelFailed, StreamerError
from streamer.inference.answer_tasks import AnswerTasks, Put
from streamer.inference.calls import Answer, Fault
from streamer.transcripts.transcript import Transcript, shift_words

FAILED = "the model failed on this segment"
UNCAUGHT = "Internal server error"
"""Error message for a client if the model's call raised; it shows nothing of the error."""

MAX_DETAIL = 4_000
MAX_DEPTH = 500
"""Levels of nesting in an output: decoders give up at about a thousand, ours and those of clients."""

_END = object()
_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})
"""Most frequent types of outputs. Checking other types for iterators and awaitables takes longer than encoding these.
"""


def to_json(value: object, max_bytes: int) -> bytes:
    """Return `value` as JSON: types that msgspec supports (dataclasses, structs, datetimes, ...) and numpy.

    NaN becomes null. Raises ModelFailed, which names the value that is not JSON, or the size or depth beyond the limit.
    """
    try:
        encoded = _ENCODER.encode(value)
    except Exception as error:
        raise ModelFailed(f"the model's output is not JSON: {_first_line(error)}") from error
    if len(encoded) > max_bytes:
        raise ModelFailed(f"the model's output has {len(encoded)} bytes, more than {max_bytes}")
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
        _check_depth(encoded)
    return encoded


def _check_depth(encoded: bytes) -> None:
    """Count levels of nesting. Only brackets outside of strings open one, so most outputs need not be looked at."""
    depth = 0
    for part in _NESTING.finditer(encoded):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(part[0], 0)
        if depth > MAX_DEPTH:
            raise ModelFailed(f"the model's output has more than {MAX_DEPTH} levels of nesting")


def _numpy(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a value of type {type(value).__name__}")


_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""A string, whose brackets open nothing, or a bracket."""
_ENCODER = msgspec.json.Encoder(enc_hook=_numpy)


def fault_of(error: BaseException, message: str = FAILED) -> Fault:
    """Return an error of the model as a client-safe message and a detail for the log."""
    detail = "".join(traceback.format_exception(error))[-MAX_DETAIL:]
    if isinstance(error, StreamerError):
        return Fault(error.code, error.message, detail)
    return Fault(ErrorCode.MODEL_ERROR, message, detail)


class Outputs:
    """Converts the outputs of one call to answers.

    Iterators are advanced in turn, one item per round. Awaitables and async iterators run concurrently, each in its own
    task, on the worker's event loop.
    """

    def __init__(self, max_bytes: int, max_partials: int) -> None:
        self._max_bytes = max_bytes
        self._max_partials = max_partials
        self._runner: asyncio.Runner | None = None
        self._offsets: Sequence[float] = ()

    def answers(self, outputs: Sequence[Any], offsets: Sequence[float] = ()) -> Iterator[tuple[list[Answer], bool]]:
        """Yield answers as they become available, and whether they are the last; one last answer per output.

        `offsets`: seconds from the start of the stream to each item, added to the times of words in a Transcript.
        """
        self._offsets = offsets
        known: list[Answer] = []
        pulled: deque[tuple[_Partials, Iterator[Any]]] = deque()
        awaited: list[tuple[int, Any]] = []
        for index, output in enumerate(outputs):
            if type(output) in _PLAIN:
                known.append(self._last(index, output))
            elif isinstance(output, Iterator):
                pulled.append((_Partials(index), output))
            elif isinstance(output, AsyncIterator) or inspect.isawaitable(output):
                awaited.append((index, output))
            else:
                known.append(self._last(index, output))
        left = len(pulled) + len(awaited)
        if known or not left:
            yield known, not left
        if not left:
            return
        for answer in self._rounds(pulled, awaited):
            left -= not answer.partial
            yield [answer], not left

    def close(self) -> None:
        """Stop the remaining tasks of outputs on the worker's event loop, and close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _rounds(
        self, pulled: deque[tuple[_Partials, Iterator[Any]]], awaited: Sequence[tuple[int, Any]]
    ) -> Iterator[Answer]:
        """Yield the answers of iterators and awaitables, in turn."""
        with self._together(awaited) as tasks:
            while pulled or tasks:
                if pulled:
                    partials, iterator = pulled.popleft()
                    answer = self._pull(partials, iterator)
                    if answer is None or answer.partial:
                        pulled.append((partials, iterator))
                    if answer is not None:
                        yield answer
                if tasks:
                    for index, known in tasks.run(wait=not pulled):
                        yield Answer(index, fault=fault_of(known)) if isinstance(known, BaseException) else known

    def _pull(self, partials: _Partials, iterator: Iterator[Any]) -> Answer | None:
        """Take one item from an iterator."""
        try:
            item = next(iterator, _END)
            return self._last(partials.index, partials.final) if item is _END else self._partial(partials, item)
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return Answer(partials.index, fault=fault_of(error))

    def _together(self, awaited: Sequence[tuple[int, Any]]) -> AnswerTasks | nullcontext[None]:
        if not awaited:
            return nullcontext()
        if self._runner is None:
            self._runner = asyncio.Runner()
        return AnswerTasks(self._runner, {index: partial(self._answer, index, output) for index, output in awaited})

    async def _answer(self, index: int, output: Any, put: Put) -> Answer:
        """Await an output. Put its partial answers, return its last one."""
        if not isinstance(output, AsyncIterator):
            return self._last(index, await output)
        partials = _Partials(index)
        async with aclosing(output) if hasattr(output, "aclose") else nullcontext():  # type: ignore[type-var]
            async for item in output:
                if (answer := self._partial(partials, item)) is not None:
                    await put(answer)
        return self._last(index, partials.final)

    def _partial(self, partials: _Partials, item: object) -> Answer | None:
        """Return the previous item as a partial answer: only now it is known not to be the last."""
        held, partials.held = partials.held, item
        if held is _END:
            return None
        partials.count += 1
        if partials.count > self._max_partials:
            raise ModelFailed(f"the model yielded more than {self._max_partials} outputs for one segment")
        return Answer(partials.index, self._encode(partials.index, held), partial=True)

    def _encode(self, index: int, output: object) -> bytes:
        if self._offsets and isinstance(output, Transcript):
            output = shift_words(output, self._offsets[index])
        return to_json(output, self._max_bytes)

    def _last(self, index: int, output: object) -> Answer:
        if isinstance(output, BaseException):
            return Answer(index, fault=fault_of(output))
        try:
            return Answer(index, self._encode(index, output))
        except ModelFailed as error:
            return Answer(index, fault=fault_of(error))


class _Partials:
    """Partial answers of one iterator. `held`: its latest item, which may be the last."""

    __slots__ = ("count", "held", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.held: object = _END
        self.count = 0

    @property
    def final(self) -> object:
        return None if self.held is _END else self.held


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
