"""Executors of batches: a thread, or the event loop itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from streamer.vad.network import one_blas_thread

BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class BatchTask(Generic[BatchT, ResultT]):
    """Work of an executor, and its callbacks, which run on the event loop."""

    work: Callable[[BatchT], ResultT]
    """Called for one batch at a time, always in the same thread. An error is a bug and ends the executor."""
    on_done: Callable[[BatchT, ResultT, float], None]
    """Called with the batch, its result and the seconds it took; possibly before `submit` returns."""
    on_failure: Callable[[BaseException], None]


class BatchExecutor(Protocol[BatchT, ResultT]):
    """Executes batches one after the other.

    While open, numpy uses one BLAS thread. Call its methods on the event loop.
    """

    def open(self, batch_task: BatchTask[BatchT, ResultT]) -> None: ...

    def submit(self, batch: BatchT) -> None:
        """Execute a batch; the one before must be done."""
        ...

    async def close(self) -> None:
        """Finish the running batch, then stop. `on_done` may still be called for it."""
        ...


class ThreadExecutor(Generic[BatchT, ResultT]):
    """Executes batches on a thread. The loop continues on another core; GIL contention adds about 10 % CPU."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inbox: SimpleQueue[BatchT | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._end_event = asyncio.Event()

    def open(self, batch_task: BatchTask[BatchT, ResultT]) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(batch_task, loop), name=self._name, daemon=True)
        self._thread.start()

    def submit(self, batch: BatchT) -> None:
        self._inbox.put(batch)

    async def close(self) -> None:
        if self._thread is not None:
            self._inbox.put(None)
            await self._end_event.wait()
            self._thread.join()
            self._thread = None

    def _run(self, batch_task: BatchTask[BatchT, ResultT], loop: asyncio.AbstractEventLoop) -> None:
        try:
            with one_blas_thread():
                while (batch := self._inbox.get()) is not None:
                    started_at = time.perf_counter()
                    result = batch_task.work(batch)
                    loop.call_soon_threadsafe(batch_task.on_done, batch, result, time.perf_counter() - started_at)
        except Exception as error:  # noqa: BLE001 (passed to the loop, which reports it)
            loop.call_soon_threadsafe(batch_task.on_failure, error)
        finally:
            loop.call_soon_threadsafe(self._end_event.set)


class InlineExecutor(Generic[BatchT, ResultT]):
    """Executes batches on the event loop, without a second core or a hand-over. Everything else waits meanwhile.

    If other threads of the process hold the GIL, the loop waits for it at each numpy product.
    """

    def __init__(self) -> None:
        self._task: BatchTask[BatchT, ResultT] | None = None
        self._blas_limit = ExitStack()

    def open(self, batch_task: BatchTask[BatchT, ResultT]) -> None:
        self._blas_limit.enter_context(one_blas_thread())
        self._task = batch_task

    def submit(self, batch: BatchT) -> None:
        assert self._task is not None
        started_at = time.perf_counter()
        try:
            result = self._task.work(batch)
        except Exception as error:  # noqa: BLE001 (reported, as from the thread)
            self._task.on_failure(error)
        else:
            self._task.on_done(batch, result, time.perf_counter() - started_at)

    async def close(self) -> None:
        self._blas_limit.close()
