"""A generator process: sends many streams on a fixed schedule."""

from __future__ import annotations

import asyncio
import gc
import math
from array import array
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from multiprocessing.connection import Connection
from time import monotonic, process_time

from streamer.loadtest.endpointing import EndpointingModel
from streamer.loadtest.load_client import ConnectionRefused
from streamer.loadtest.load_clients import load_client_for
from streamer.loadtest.load_stream import LoadStream, StreamRecord
from streamer.loadtest.workload import Tape, Workload, delays, schedule
from streamer.session.messages import Start

MAX_CONNECTING = 64
"""Concurrent handshakes."""
REPORT_S = 0.25
DRAIN_S = 15.0
"""Seconds to wait for the remaining results after the stop."""
LATE_BINS = 2_000
"""Bins of a millisecond; the last one contains all above."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Task of one process: `streams` of the `total_streams`, each with the same `start`. `simple`: the mode."""

    url: str
    token: str | None
    workload: Workload
    tape: Tape
    streams: range
    total_streams: int
    endpointing: EndpointingModel
    start: Start
    is_simple: bool
    is_stub: bool


@dataclass(frozen=True, slots=True)
class ConnectReport:
    """Report before the start: the number of open streams, and the errors of the others."""

    streams: int
    refused: Counter[str]


@dataclass(frozen=True, slots=True)
class StartSending:
    """Start time of the schedule, as time.monotonic(), which all processes of a machine share."""

    at: float


@dataclass(frozen=True, slots=True)
class GeneratorProgress:
    """Progress during the run. `late_s`: largest delay since the last report."""

    live: int
    results: int
    late_s: float


@dataclass(frozen=True, slots=True)
class GeneratorReport:
    """Final report. `late`: messages by delay in whole milliseconds. `cpu_s`: of the load."""

    records: list[StreamRecord]
    late: array[int]
    cpu_s: float
    seconds: float


class Generator:
    """Sends the streams of an assignment, controlled over a pipe."""

    def __init__(self, assignment: Assignment, pipe: Connection) -> None:
        self._assignment = assignment
        self._pipe = pipe
        self._streams: list[LoadStream] = []
        self._late = array("q", [0]) * LATE_BINS
        self._worst_s = 0.0

    async def run(self) -> None:
        refused = await self._connect()
        self._pipe.send(ConnectReport(len(self._streams), refused))
        go: StartSending = await asyncio.get_running_loop().run_in_executor(None, self._pipe.recv)
        gc.collect()
        gc.freeze()
        gc.disable()  # a pause of the collector would delay messages; there are few cycles
        started_at, cpu = monotonic(), process_time()
        reporting = asyncio.create_task(self._report())
        await self._send_loop(go.at)
        spent, seconds = process_time() - cpu, monotonic() - started_at
        await self._drain()
        reporting.cancel()
        await asyncio.wait([reporting])
        self._pipe.send(GeneratorReport([stream.record() for stream in self._streams], self._late, spent, seconds))

    async def _connect(self) -> Counter[str]:
        work, tape = self._assignment.workload, self._assignment.tape
        caller = load_client_for(self._assignment.url, self._assignment.token)
        frames, jitter = caller.frames(tape.chunks), delays(work)
        start = caller.new_codec().encode(self._assignment.start)
        refused: Counter[str] = Counter()
        gate = asyncio.Semaphore(MAX_CONNECTING)

        async def open_(index: int) -> None:
            stream = LoadStream(
                index,
                work,
                schedule(work, index, self._assignment.total_streams, len(frames), jitter),
                frames,
                caller.new_codec(),
                self._assignment.endpointing,
                simple=self._assignment.is_simple,
                counts=self._assignment.is_stub,
            )
            async with gate:
                started_at = monotonic()
                try:
                    line = await caller.connect(stream)
                except ConnectionRefused as why:
                    refused[str(why)] += 1
                    return
                stream.connection, stream.connect_s = line, monotonic() - started_at
                line.send_control(start)
                self._streams.append(stream)

        async with asyncio.TaskGroup() as calls:
            for index in self._assignment.streams:
                calls.create_task(open_(index))
        return refused

    async def _send_loop(self, go: float) -> None:
        """Send each message when it is due, whatever the server does; late ones at once, and count them."""
        due = [(go + next(stream.dues_s), stream.index, stream) for stream in self._streams]
        heapify(due)
        while due:
            wait = due[0][0] - monotonic()
            # The loop's timers have whole milliseconds; a zero lets it read meanwhile.
            await asyncio.sleep(math.ceil(wait * 1e3) / 1e3 if wait > 0 else 0)
            until = monotonic()
            while due and due[0][0] <= until:
                self._next(due, go)

    def _next(self, due: list[tuple[float, int, LoadStream]], go: float) -> None:
        """Send the message that is due first, and schedule the next one of its stream."""
        at, index, stream = due[0]
        following = None if stream.is_closed else next(stream.dues_s, None)
        if not stream.is_closed:
            late_s = stream.send() - at
            self._late[min(int(late_s * 1e3), LATE_BINS - 1)] += 1
            self._worst_s = max(self._worst_s, late_s)
            if following is None:
                stream.stop()
        if following is None:
            heappop(due)
        else:
            heapreplace(due, (go + following, index, stream))

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                for stream in self._streams:
                    await stream.close_event.wait()
        for stream in self._streams:
            if not stream.is_closed and stream.connection is not None:
                stream.connection.abort()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            live = sum(not stream.is_closed for stream in self._streams)
            results = sum(stream.results for stream in self._streams)
            self._pipe.send(GeneratorProgress(live, results, self._worst_s))
            self._worst_s = 0.0


def main(assignment: Assignment, pipe: Connection) -> None:
    """Run the process."""
    import signal  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    uvloop.run(Generator(assignment, pipe).run())
