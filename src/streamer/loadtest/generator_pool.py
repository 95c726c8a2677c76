"""The pool of generator processes, as seen by their parent: started, synchronised, and collected."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from streamer.errors import StreamerError
from streamer.loadtest import generator
from streamer.loadtest.generator import Assignment, ConnectReport, GeneratorProgress, GeneratorReport, StartSending


class GeneratorDied(StreamerError):
    """A generator process died, so the run is invalid."""


class GeneratorPool:
    """A pool of generators."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        self._messages: list[asyncio.Queue[object]] = [asyncio.Queue() for _ in pipes]
        self._progress: list[GeneratorProgress] = [GeneratorProgress(0, 0, 0.0) for _ in pipes]

    def start_listening(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe, messages in zip(self._pipes, self._messages, strict=True):
            loop.add_reader(pipe.fileno(), self._read, pipe, messages)
            os.set_blocking(pipe.fileno(), True)  # uvloop changed it, and a long message arrives in several reads

    def stop_listening(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe in self._pipes:
            loop.remove_reader(pipe.fileno())

    async def wait_connected(self) -> tuple[int, Counter[str]]:
        """Return the number of open streams after all attempts, and the errors of the others."""
        streams, refused = 0, Counter[str]()
        for messages in self._messages:
            message = await self._next(messages)
            assert isinstance(message, ConnectReport)
            streams += message.streams
            refused += message.refused
        return streams, refused

    def start(self, at: float) -> None:
        for pipe in self._pipes:
            pipe.send(StartSending(at))

    async def wait_done(self, on_progress: Callable[[GeneratorProgress], None]) -> list[GeneratorReport]:
        """Return the reports at the end; `on_progress` gets the progress of all meanwhile."""
        return await asyncio.gather(
            *(self._wait_one(index, messages, on_progress) for index, messages in enumerate(self._messages))
        )

    async def _wait_one(
        self, index: int, messages: asyncio.Queue[object], on_progress: Callable[[GeneratorProgress], None]
    ) -> GeneratorReport:
        while True:
            match await self._next(messages):
                case GeneratorReport() as done:
                    return done
                case GeneratorProgress() as progress:
                    self._progress[index] = progress
                    on_progress(
                        GeneratorProgress(
                            live=sum(each.live for each in self._progress),
                            results=sum(each.results for each in self._progress),
                            late_s=max(each.late_s for each in self._progress),
                        )
                    )

    async def _next(self, messages: asyncio.Queue[object]) -> object:
        message = await messages.get()
        if message is None:
            raise GeneratorDied("a process of the load generator died; nothing was measured")
        return message

    def _read(self, pipe: Connection, messages: asyncio.Queue[object]) -> None:
        try:
            messages.put_nowait(pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            messages.put_nowait(None)


@asynccontextmanager
async def start_generators(assignments: Sequence[Assignment]) -> AsyncIterator[GeneratorPool]:
    """Start a process for each assignment, and end them with the block. If one cannot be started, none is left."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = list[Connection](), list[SpawnProcess]()
    try:
        for assignment in assignments:
            ours, theirs = context.Pipe()
            pipes.append(ours)
            with theirs:  # the child has a copy; this one would hide its end
                process = context.Process(target=generator.main, args=(assignment, theirs), daemon=True)
                process.start()
            processes.append(process)
        pool = GeneratorPool(pipes)
        pool.start_listening()
        try:
            yield pool
        finally:
            pool.stop_listening()
    finally:
        await asyncio.to_thread(_end, processes)
        for pipe in pipes:
            pipe.close()


def _end(processes: Sequence[SpawnProcess]) -> None:
    """Kill the processes and wait until they have exited; their reports were received or are not needed."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
        process.close()
