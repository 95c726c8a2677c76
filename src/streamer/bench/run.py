"""One step of a run: generator processes, a monitored server, and the figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic

from streamer.bench.callers import caller_of
from streamer.bench.crew import hired
from streamer.bench.endpoint import Endpointing
from streamer.bench.generator import Assignment, Progress
from streamer.bench.measure import Observed, step_of
from streamer.bench.results import Step
from streamer.bench.server_use import Meter, Sample
from streamer.bench.workload import Tape, Workload, shares
from streamer.client.stream import dialect_of, is_grpc
from streamer.errors import StreamerError
from streamer.session.events import Mode
from streamer.session.messages import AudioOutFormat, Start, VadOverrides

_SAMPLE_S = 0.5
_HEAD_START_S = 0.2


class NothingServed(StreamerError):
    """No stream could be opened; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server under test. `pid`: its process on this machine. `counts`: it serves the stub.

    `url` as in the client library; its path, or `mode` over gRPC, selects the mode.
    """

    url: str
    pid: int | None = None
    token: str | None = None
    mode: Mode = Mode.SEGMENTED
    counts: bool = False

    @property
    def simple(self) -> bool:
        return self.mode is Mode.SIMPLE if is_grpc(self.url) else self.url.rstrip("/").endswith(Mode.SIMPLE)

    def start(self, plan: Plan) -> Start:
        """Return the start message. It requests endpointing if the protocol version supports it."""
        work = plan.workload
        if is_grpc(self.url):
            start = Start(work.format, interim_results=work.interim_results, vad=plan.vad, mode=self.mode)
        else:
            vad = plan.vad if dialect_of(self.url).name == "v2" else VadOverrides()
            start = Start(work.format, interim_results=work.interim_results, vad=vad)
        if not work.audio_out:
            return start
        return replace(start, audio_out=AudioOutFormat(work.format.encoding, work.format.sample_rate))


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of all steps of a run. `processes` 0: as many as the streams need."""

    workload: Workload
    tape: Tape
    endpointing: Endpointing = Endpointing()
    vad: VadOverrides = VadOverrides()
    processes: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """Progress of a running step: `seconds` of its `of`, the generators' progress, and the server's cores."""

    streams: int
    seconds: float
    of: float
    progress: Progress
    cores: float | None


async def run_step(plan: Plan, target: Target, streams: int, say: Callable[[News], None]) -> Step:
    """Run a step with `streams` concurrent streams. Raises NothingServed, GeneratorDied, ConfigError."""
    processes = plan.processes or -(-streams // caller_of(target.url).streams_per_process)
    assignments = [
        Assignment(
            url=target.url,
            token=target.token,
            workload=plan.workload,
            tape=plan.tape,
            streams=share,
            of=streams,
            endpointing=plan.endpointing,
            start=target.start(plan),
            simple=target.simple,
            counts=target.counts,
        )
        for share in shares(streams, processes)
    ]
    async with _watched(target.pid) as watched, hired(assignments) as crew:
        opened, refused = await crew.connected()
        if not opened:
            [(why, _)] = refused.most_common(1)
            raise NothingServed(f"{target.url}: {why}")
        go = monotonic() + _HEAD_START_S
        crew.go(go)
        for at_s in (plan.workload.quiet_s, plan.workload.each_s):
            asyncio.get_running_loop().call_later(_HEAD_START_S + at_s, watched.take)

        def heard(progress: Progress) -> None:
            say(News(streams, max(0.0, monotonic() - go), plan.workload.total_s, progress, watched.cores))

        dones = await crew.done(heard)
    return step_of(Observed(streams, opened, refused, go, dones, watched.samples), plan.workload)


class _Watched:
    """Samples of the server's process: none without a process, or after its end."""

    def __init__(self, pid: int | None) -> None:
        self._meter = None if pid is None else Meter(pid)
        self.samples: list[Sample] = []

    @property
    def cores(self) -> float | None:
        """Recently used cores."""
        if len(self.samples) < 2:
            return None
        before, last = self.samples[-2:]
        return (last.cpu_s - before.cpu_s) / (last.at - before.at)

    def take(self) -> None:
        sample = None if self._meter is None else self._meter.sample()
        if sample is not None:
            self.samples.append(sample)

    async def watch(self) -> None:
        while True:
            self.take()
            await asyncio.sleep(_SAMPLE_S)


@asynccontextmanager
async def _watched(pid: int | None) -> AsyncIterator[_Watched]:
    """Sample a process during the block."""
    watched = _Watched(pid)
    watched.take()
    watching = asyncio.create_task(watched.watch())
    try:
        yield watched
    finally:
        watching.cancel()
        await asyncio.wait([watching])
