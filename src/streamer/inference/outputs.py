"""Conversion of model outputs to JSON: supports numpy, bounds sizes, and names values that are not JSON."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import Any

import msgspec
import numpy as np

from streamer.errors import ModelFailed
from streamer.inference.answer_tasks import AnswerTasks, Put, post_as_ready
from streamer.inference.audio_check import AudioCheck
from streamer.inference.faults import fault_of
from streamer.inference.worker_protocol import NO_AUDIO, Answer
from streamer.models.author_errors import BadOutput
from streamer.models.contract import AudioOut
from streamer.transcripts.transcript import Transcript, shift_words

MAX_DEPTH = 500
"""Levels of nesting in an output: decoders give up at about a thousand, ours and those of clients."""

_END = object()
_PLAIN = frozenset({dict, list, str, int, float, bool, type(None)})
"""Most frequent types of outputs. Checking other types for iterators and awaitables takes longer than encoding these.
"""


def to_json(value: object, max_bytes: int, encoder: msgspec.json.Encoder | None = None) -> bytes:
    """Return `value` as JSON: types that msgspec supports (dataclasses, structs, datetimes, ...) and numpy.

    NaN becomes null. `encoder`: one that knows further types. Raises BadOutput, which names the value that is not JSON,
    or the size or depth beyond the limit.
    """
    try:
        encoded = (encoder or _ENCODER).encode(value)
    except Exception as error:  # noqa: BLE001 (reported as the output's error, which names the value)
        raise BadOutput(f"the model's output is not JSON: {_first_line(error)}") from None
    if len(encoded) > max_bytes:
        raise BadOutput(f"the model's output has {len(encoded)} bytes, more than {max_bytes}")
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
        _check_depth(encoded)
    return encoded


def _check_depth(encoded: bytes) -> None:
    """Count levels of nesting. Only brackets outside of strings open one, so most outputs need not be looked at."""
    depth = 0
    for part in _NESTING.finditer(encoded):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(part[0], 0)
        if depth > MAX_DEPTH:
            raise BadOutput(f"the model's output has more than {MAX_DEPTH} levels of nesting")


def _numpy(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"a value of type {type(value).__name__}")


_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
"""A string, whose brackets open nothing, or a bracket."""
_ENCODER = msgspec.json.Encoder(enc_hook=_numpy)


class Outputs:
    """Converts the outputs of one call to answers.

    Iterators are advanced in turn, one item per round. Awaitables and async iterators run concurrently, each in its own
    task, on the worker's event loop. Audio leaves as soon as it is there; an AudioOut alone has no JSON.
    """

    def __init__(self, max_bytes: int, max_partials: int) -> None:
        self._max_bytes = max_bytes
        self._max_partials = max_partials
        self._runner: asyncio.Runner | None = None
        self.audio = AudioCheck()
        """Format of the model's audio."""
        self._encoder = msgspec.json.Encoder(enc_hook=self._beside_json)
        self._found: list[AudioOut] = []
        """Audio in the output that is being encoded."""
        self._offsets: Sequence[float] = ()

    def answers(self, outputs: Sequence[Any], offsets: Sequence[float] = ()) -> Iterator[tuple[list[Answer], bool]]:
        """Yield answers as they become available, and whether they are the last; one last answer per output.

        `offsets`: seconds from the start of the stream to each item, added to the times of words in a Transcript.
        """
        self._offsets = offsets
        answers_ready: list[Answer] = []
        pulled: deque[tuple[_Partials, Iterator[Any]]] = deque()
        awaited: list[tuple[int, Any]] = []
        for index, output in enumerate(outputs):
            if type(output) in _PLAIN:
                answers_ready.append(self._last(index, output))
            elif isinstance(output, Iterator):
                pulled.append((_Partials(index), output))
            elif isinstance(output, AsyncIterator) or inspect.isawaitable(output):
                awaited.append((index, output))
            else:
                answers_ready.append(self._last(index, output))
        remaining = len(pulled) + len(awaited)
        if answers_ready or not remaining:
            yield answers_ready, not remaining
        if not remaining:
            return
        for answer in self._round_robin(pulled, awaited):
            remaining -= not answer.partial
            yield [answer], not remaining

    def beside(self, offsets: Sequence[float]) -> Outputs:
        """Return the converter of another call that overlaps with this one. `offsets`: as for `answers`."""
        other = Outputs(self._max_bytes, self._max_partials)
        other.audio = self.audio
        other._offsets = offsets
        return other

    async def answer_all(self, outputs: Sequence[Any], post: Callable[[list[Answer]], None]) -> None:
        """Post answers as they become available, on the running event loop; return after the last one.

        If it is cancelled, the outputs are cancelled, and awaited. Raises an output's SystemExit as a RuntimeError.
        """
        answers_ready: list[Answer] = []
        later: list[tuple[int, Callable[[Put], Coroutine[Any, Any, Answer]]]] = []
        for index, output in enumerate(outputs):
            if type(output) in _PLAIN:
                answers_ready.append(self._last(index, output))
            elif isinstance(output, Iterator):
                later.append((index, partial(self._answer_pulled, index, output)))
            elif isinstance(output, AsyncIterator) or inspect.isawaitable(output):
                later.append((index, partial(self._answer, index, output)))
            else:
                answers_ready.append(self._last(index, output))
        if answers_ready:
            post(answers_ready)
        if later:
            await post_as_ready(later, post)

    def wait_for(self, outputs: Awaitable[Any]) -> Any:
        """Await what an `async def infer` returns, on the worker's event loop."""

        async def wait() -> Any:
            return await outputs

        return self.runner.run(wait())

    @property
    def runner(self) -> asyncio.Runner:
        """The worker's event loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    def close(self) -> None:
        """Stop the remaining tasks of outputs on the worker's event loop, and close the loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _round_robin(
        self, pulled: deque[tuple[_Partials, Iterator[Any]]], awaited: Sequence[tuple[int, Any]]
    ) -> Iterator[Answer]:
        """Yield the answers of iterators and awaitables, in turn."""
        with self._run_awaitables(awaited) as tasks:
            while pulled or tasks:
                if pulled:
                    partials, iterator = pulled.popleft()
                    answer = self._pull(partials, iterator)
                    if answer is None or answer.partial:
                        pulled.append((partials, iterator))
                    if answer is not None:
                        yield answer
                if tasks:
                    for index, answers_ready in tasks.run(wait=not pulled):
                        yield (
                            Answer(index, fault=fault_of(answers_ready))
                            if isinstance(answers_ready, BaseException)
                            else answers_ready
                        )

    def _pull(self, partials: _Partials, iterator: Iterator[Any]) -> Answer | None:
        """Take one item from an iterator."""
        try:
            item = next(iterator, _END)
            return self._last(partials.index, partials.final) if item is _END else self._partial(partials, item)
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            return Answer(partials.index, fault=fault_of(error))

    def _run_awaitables(self, awaited: Sequence[tuple[int, Any]]) -> AnswerTasks | nullcontext[None]:
        if not awaited:
            return nullcontext()
        return AnswerTasks(self.runner, {index: partial(self._answer, index, output) for index, output in awaited})

    async def _answer_pulled(self, index: int, output: Iterator[Any], put: Put) -> Answer:
        """Take the items of an iterator, one for each turn of the loop. Put its partial answers, return its last."""
        partials = _Partials(index)
        while True:
            answer = self._pull(partials, output)
            if answer is None:
                await asyncio.sleep(0)
            elif answer.partial:
                await put(answer)
            else:
                return answer

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
        """Return an item's audio, or the previous item as a partial answer: only now it is known not to be the last."""
        if type(item) is AudioOut:
            return self._part(partials, b"", self.audio.checked(item))
        audio = NO_AUDIO
        previous = partials.latest
        if self.audio.is_declared and not isinstance(item, BaseException):
            value, audio = self._encode(partials.index, item)
            item = msgspec.Raw(value)
        partials.latest = item
        if previous is _END:
            return self._part(partials, b"", audio) if len(audio) else None
        partials.count += 1
        if partials.count > self._max_partials:
            raise BadOutput(f"the model yielded more than {self._max_partials} outputs for one segment")
        return self._part(partials, self._encode(partials.index, previous)[0], audio)

    def _part(self, partials: _Partials, value: bytes, audio: memoryview) -> Answer:
        """Return a partial answer. `value`: JSON, empty for audio alone."""
        partials.audio_bytes += len(audio)
        self.audio.check_length(partials.audio_bytes)
        return Answer(partials.index, value, partial=True, audio=audio)

    def _last(self, index: int, output: object) -> Answer:
        if isinstance(output, BaseException):
            return Answer(index, fault=fault_of(output))
        try:
            value, audio = self._encode(index, output)
            return Answer(index, value, audio=audio)
        except ModelFailed as error:
            return Answer(index, fault=fault_of(error))

    def _encode(self, index: int, output: object) -> tuple[bytes, memoryview]:
        """Return the JSON of an output and its audio."""
        if type(output) is AudioOut:
            return b"null", self.audio.checked(output)
        if self._offsets and isinstance(output, Transcript):
            output = shift_words(output, self._offsets[index])
        try:
            value = to_json(output, self._max_bytes, self._encoder)
            return value, self.audio.checked_all(self._found) if self._found else NO_AUDIO
        finally:
            if self._found:
                self._found = []

    def _beside_json(self, value: object) -> object:
        """Return the JSON of a type that msgspec does not know. Audio in an output is described, and sent beside it."""
        if isinstance(value, AudioOut):
            self._found.append(value)
            return {"frames": (np.shape(value.samples) or (0,))[-1], "sample_rate": value.sample_rate}
        return _numpy(value)


class _Partials:
    """Partial answers of one iterator. `held`: its latest item, which may be the last."""

    __slots__ = ("audio_bytes", "count", "index", "latest")

    def __init__(self, index: int) -> None:
        self.index = index
        self.latest: object = _END
        self.count = 0
        self.audio_bytes = 0

    @property
    def final(self) -> object:
        return None if self.latest is _END else self.latest


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
