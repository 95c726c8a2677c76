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

from streamer.bench import generator
from streamer.bench.generator import Assignment, Connected, Done, Go, Progress
from streamer.errors import StreamerError


class GeneratorDied(StreamerError):
    """A generator process died, so the run is invalid."""


class Crew:
    """A pool of generators."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        self._messages: list[asyncio.Queue[object]] = [asyncio.Queue() for _ in pipes]
        self._progress: list[Progress] = [Progress(0, 0, 0.0) for _ in pipes]

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe, messages in zip(self._pipes, self._messages, strict=True):
            loop.add_reader(pipe.fileno(), self._read, pipe, messages)
            os.set_blocking(pipe.fileno(), True)  # uvloop changed it, and a long message arrives in several reads

    def deafen(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe in self._pipes:
            loop.remove_reader(pipe.fileno())

    async def connected(self) -> tuple[int, Counter[str]]:
        """Return the number of open streams after all attempts, and the errors of the others."""
        streams, refused = 0, Counter[str]()
        for messages in self._messages:
            message = await self._next(messages)
            assert isinstance(message, Connected)
            streams += message.streams
            refused += message.refused
        return streams, refused

    def go(self, at: float) -> None:
        for pipe in self._pipes:
            pipe.send(Go(at))

    async def done(self, say: Callable[[Progress], None]) -> list[Done]:
        """Return the reports at the end; `say` gets the progress of all meanwhile."""
        return await asyncio.gather(
            *(self._done(index, messages, say) for index, messages in enumerate(self._messages))
        )

    async def _done(self, index: int, messages: asyncio.Queue[object], say: Callable[[Progress], None]) -> Done:
        while True:
            match await self._next(messages):
                case Done() as done:
                    return done
                case Progress() as progress:
                    self._progress[index] = progress
                    say(
                        Progress(
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
async def hired(assignments: Sequence[Assignment]) -> AsyncIterator[Crew]:
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
        crew = Crew(pipes)
        crew.listen()
        try:
            yield crew
        finally:
            crew.deafen()
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
