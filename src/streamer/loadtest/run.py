"""One step of a run: generator processes, a monitored server, and the figures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from time import monotonic

from streamer.client.stream import codec_of, is_grpc
from streamer.errors import StreamerError
from streamer.loadtest.endpointing import EndpointingModel
from streamer.loadtest.generator import Assignment, GeneratorProgress
from streamer.loadtest.generator_pool import start_generators
from streamer.loadtest.load_clients import load_client_for
from streamer.loadtest.process_usage import ProcessSampler, UsageSample
from streamer.loadtest.results import LoadStep
from streamer.loadtest.statistics import StepObservation, summarise_step
from streamer.loadtest.workload import Tape, Workload, split_streams
from streamer.session.events import Mode
from streamer.session.messages import AudioOutFormat, Start, VadOverrides

_SAMPLE_S = 0.5
_HEAD_START_S = 0.2


class NoStreamOpened(StreamerError):
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
    is_stub: bool = False

    @property
    def is_simple(self) -> bool:
        return self.mode is Mode.SIMPLE if is_grpc(self.url) else self.url.rstrip("/").endswith(Mode.SIMPLE)

    def start_message(self, plan: LoadPlan) -> Start:
        """Return the start message. It requests endpointing if the protocol version supports it."""
        work = plan.workload
        if is_grpc(self.url):
            start = Start(work.format, interim_results=work.interim_results, vad=plan.vad, mode=self.mode)
        else:
            vad = plan.vad if codec_of(self.url).name == "v2" else VadOverrides()
            start = Start(work.format, interim_results=work.interim_results, vad=vad)
        if not work.audio_out:
            return start
        return replace(start, audio_out=AudioOutFormat(work.format.encoding, work.format.sample_rate))


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Settings of all steps of a run. `processes` 0: as many as the streams need."""

    workload: Workload
    tape: Tape
    endpointing: EndpointingModel = EndpointingModel()
    vad: VadOverrides = VadOverrides()
    processes: int = 0


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Progress of a running step: `seconds` of its `total_s`, the generators' progress, and the server's cores."""

    streams: int
    seconds: float
    total_s: float
    progress: GeneratorProgress
    cores: float | None


async def run_step(
    plan: LoadPlan, target: Target, streams: int, on_progress: Callable[[StepProgress], None]
) -> LoadStep:
    """Run a step with `streams` concurrent streams. Raises NothingServed, GeneratorDied, ConfigError."""
    processes = plan.processes or -(-streams // load_client_for(target.url).streams_per_process)
    assignments = [
        Assignment(
            url=target.url,
            token=target.token,
            workload=plan.workload,
            tape=plan.tape,
            streams=share,
            total_streams=streams,
            endpointing=plan.endpointing,
            start=target.start_message(plan),
            is_simple=target.is_simple,
            is_stub=target.is_stub,
        )
        for share in split_streams(streams, processes)
    ]
    async with _sample_process(target.pid) as watched, start_generators(assignments) as pool:
        opened, refused = await pool.wait_connected()
        if not opened:
            [(why, _)] = refused.most_common(1)
            raise NoStreamOpened(f"{target.url}: {why}")
        go = monotonic() + _HEAD_START_S
        pool.start(go)
        for at_s in (plan.workload.quiet_s, plan.workload.each_s):
            asyncio.get_running_loop().call_later(_HEAD_START_S + at_s, watched.sample)

        def heard(progress: GeneratorProgress) -> None:
            on_progress(
                StepProgress(streams, max(0.0, monotonic() - go), plan.workload.total_s, progress, watched.cores)
            )

        dones = await pool.wait_done(heard)
    return summarise_step(StepObservation(streams, opened, refused, go, dones, watched.samples), plan.workload)


class _ProcessSampler:
    """Samples of the server's process: none without a process, or after its end."""

    def __init__(self, pid: int | None) -> None:
        self._meter = None if pid is None else ProcessSampler(pid)
        self.samples: list[UsageSample] = []

    @property
    def cores(self) -> float | None:
        """Recently used cores."""
        if len(self.samples) < 2:
            return None
        before, last = self.samples[-2:]
        return (last.cpu_s - before.cpu_s) / (last.at - before.at)

    def sample(self) -> None:
        sample = None if self._meter is None else self._meter.sample()
        if sample is not None:
            self.samples.append(sample)

    async def run(self) -> None:
        while True:
            self.sample()
            await asyncio.sleep(_SAMPLE_S)


@asynccontextmanager
async def _sample_process(pid: int | None) -> AsyncIterator[_ProcessSampler]:
    """Sample a process during the block."""
    watched = _ProcessSampler(pid)
    watched.sample()
    watching = asyncio.create_task(watched.run())
    try:
        yield watched
    finally:
        watching.cancel()
        await asyncio.wait([watching])
