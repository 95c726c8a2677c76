"""Awaitable outputs of one call: they run concurrently on the worker's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from streamer.inference.faults import fault_of
from streamer.inference.worker_protocol import Answer

Put = Callable[[Answer], Awaitable[None]]
"""Puts a partial answer; returns when there is space for the next one."""


class AnswerTasks:
    """One task per awaitable output; true while one of them runs. Leaving the context cancels the remaining tasks.

    A task puts its partial answers and returns its last one. The queue holds one answer, so no output runs ahead of its
    consumer.
    """

    def __init__(
        self, runner: asyncio.Runner, answers: Mapping[int, Callable[[Put], Coroutine[Any, Any, Answer]]]
    ) -> None:
        self._runner = runner
        self._partials: asyncio.Queue[Answer] = asyncio.Queue(maxsize=1)
        self._ready = asyncio.Event()
        self._tasks: dict[asyncio.Task[Answer], int] = {}
        loop = runner.get_loop()
        for index, answer in answers.items():
            task = loop.create_task(answer(self._put))
            task.add_done_callback(lambda _: self._ready.set())
            self._tasks[task] = index

    def __enter__(self) -> AnswerTasks:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            self._runner.run(self._end())

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def run(self, *, wait: bool) -> Iterator[tuple[int, Answer | BaseException]]:
        """Run the tasks until an answer is available, or only briefly; yield answers by index of output."""
        self._runner.run(self._step(wait))
        while not self._partials.empty():
            answer = self._partials.get_nowait()
            yield answer.index, answer
        for task in [task for task in self._tasks if task.done()]:
            index = self._tasks.pop(task)
            error = asyncio.CancelledError("it cancelled itself") if task.cancelled() else task.exception()
            yield index, task.result() if error is None else error

    async def _step(self, wait: bool) -> None:
        if wait:
            await self._ready.wait()
        else:
            await asyncio.sleep(0)
        self._ready.clear()

    async def _put(self, answer: Answer) -> None:
        await self._partials.put(answer)
        self._ready.set()

    async def _end(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def post_as_ready(
    outputs: Sequence[tuple[int, Callable[[Put], Coroutine[Any, Any, Answer]]]], post: Callable[[list[Answer]], None]
) -> None:
    """Run outputs together on the running event loop, and post their answers. Ends with the last one.

    If it is cancelled, it cancels the outputs, and waits for them. Raises an output's SystemExit as a RuntimeError,
    because an event loop would end with a SystemExit.
    """
    is_ending = False

    async def put(answer: Answer) -> None:
        post([answer])
        await asyncio.sleep(0)

    async def run(index: int, output: Callable[[Put], Coroutine[Any, Any, Answer]]) -> None:
        try:
            answer = await output(put)
        except SystemExit as error:
            raise RuntimeError("the model raised SystemExit") from error
        except asyncio.CancelledError:
            if is_ending:
                raise
            answer = Answer(index, fault=fault_of(asyncio.CancelledError("it cancelled itself")))
        except Exception as error:  # noqa: BLE001 (this item's answer; the engine counts and logs it)
            answer = Answer(index, fault=fault_of(error))
        post([answer])

    tasks = [asyncio.create_task(run(index, output)) for index, output in outputs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        is_ending = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
