"""Where batches are worked on: a thread of their own, or the event loop, between other things."""

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
class Errand(Generic[BatchT, ResultT]):
    """What is done in a place, and who hears of it, on the event loop."""

    work: Callable[[BatchT], ResultT]
    """Called for one batch at a time, always in the same place. An error is a fault of the program, and the end."""
    done: Callable[[BatchT, ResultT, float], None]
    """The batch, its result, the seconds it took; perhaps before `give` returns."""
    failed: Callable[[BaseException], None]


class Place(Protocol[BatchT, ResultT]):
    """While it is open, numpy's products use one BLAS thread in this process. Methods belong to the event loop."""

    def open(self, errand: Errand[BatchT, ResultT]) -> None: ...

    def give(self, batch: BatchT) -> None:
        """Work on this one; the one before must be done."""
        ...

    async def close(self) -> None:
        """After the batch it has. `done` may still be called for that one."""
        ...


class OwnThread(Generic[BatchT, ResultT]):
    """The loop goes on meanwhile, on another core; what the two take from each other's turns costs a tenth more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inbox: SimpleQueue[BatchT | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()

    def open(self, errand: Errand[BatchT, ResultT]) -> None:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._live, args=(errand, loop), name=self._name, daemon=True)
        self._thread.start()

    def give(self, batch: BatchT) -> None:
        self._inbox.put(batch)

    async def close(self) -> None:
        if self._thread is not None:
            self._inbox.put(None)
            await self._ended.wait()
            self._thread.join()
            self._thread = None

    def _live(self, errand: Errand[BatchT, ResultT], loop: asyncio.AbstractEventLoop) -> None:
        try:
            with one_blas_thread():
                while (batch := self._inbox.get()) is not None:
                    began = time.perf_counter()
                    result = errand.work(batch)
                    loop.call_soon_threadsafe(errand.done, batch, result, time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 (carried to the loop, where it is told)
            loop.call_soon_threadsafe(errand.failed, error)
        finally:
            loop.call_soon_threadsafe(self._ended.set)


class OnTheLoop(Generic[BatchT, ResultT]):
    """No other core is needed and nothing handed over; everything else waits meanwhile. Where threads of this process
    keep the interpreter's lock, the loop waits for it at each of numpy's products."""

    def __init__(self) -> None:
        self._errand: Errand[BatchT, ResultT] | None = None
        self._limits = ExitStack()

    def open(self, errand: Errand[BatchT, ResultT]) -> None:
        self._limits.enter_context(one_blas_thread())
        self._errand = errand

    def give(self, batch: BatchT) -> None:
        assert self._errand is not None
        began = time.perf_counter()
        try:
            result = self._errand.work(batch)
        except Exception as error:  # noqa: BLE001 (told, as from the thread)
            self._errand.failed(error)
        else:
            self._errand.done(batch, result, time.perf_counter() - began)

    async def close(self) -> None:
        self._limits.close()
