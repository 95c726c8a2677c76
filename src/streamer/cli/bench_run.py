"""A run of `streamer bench`: its steps, each against a server, then the files and the table."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shlex
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

import streamer
from streamer.build import compiled
from streamer.cli.bench_view import RunProgressView, print_summary
from streamer.cli.server_subprocess import run_server
from streamer.errors import ConfigError
from streamer.loadtest.capacity import Goal, Search
from streamer.loadtest.load_clients import load_client_for
from streamer.loadtest.results import CapacityResult, LoadReport, LoadStep, MachineInfo, WorkloadInfo
from streamer.loadtest.run import LoadPlan, Target, run_step
from streamer.session.events import Mode

GRPC = "grpc"
_STUB = "stub"
_HEADROOM = 1_000
"""Extra sessions of a private server, so that it refuses no stream."""


@dataclass(frozen=True, slots=True)
class MeasuredServer:
    """The server to measure: an address, or a model to start one with."""

    address: str | None
    model: str | None
    settings: tuple[str, ...]
    endpoint: str
    mode: Mode
    pid: int | None
    token: str | None

    def check(self, plan: LoadPlan) -> MeasuredServer:
        """Return self. Raises ConfigError, BadRequest or InvalidFormat for an invalid or unsupported option."""
        if (self.address is None) == (self.model is None):
            raise ConfigError(field="server", expected="one of --address URL and --serve MODEL", got="both or neither")
        if self.model is not None and self.pid is not None:
            raise ConfigError(field="--server-pid", expected="only with --address", got=self.pid)
        target = self._at(self.address or self._url("http://localhost:1", "grpc://localhost:1"))
        load_client_for(target.url).new_codec().encode(target.start_message(plan))
        return self

    @property
    def description(self) -> str:
        return self.address or f"{self.endpoint} of streamer serve {shlex.join((self.model or '', *self.settings))}"

    @asynccontextmanager
    async def target(self, streams: int) -> AsyncIterator[Target]:
        """Yield the running server, or one of our own with a sufficient limit of sessions."""
        if self.address is not None:
            yield self._at(self.address)
            return
        assert self.model is not None
        room = ("--set", f"server.max_sessions={streams + _HEADROOM}", "--set", "log.level=warning")
        async with run_server(self.model, *room, *self.settings, grpc=self.endpoint == GRPC) as child:
            yield self._at(self._url(child.address, child.grpc), child.pid)

    def _at(self, url: str, pid: int | None = None) -> Target:
        return Target(url, pid or self.pid, self.token, self.mode, is_stub=self.model == _STUB)

    def _url(self, http: str, grpc: str) -> str:
        return grpc if self.endpoint == GRPC else http.replace("http", "ws", 1) + self.endpoint


@dataclass(frozen=True, slots=True)
class RunSpec:
    """The requested run.

    `goal`: search for the capacity, starting at the first number; otherwise the numbers are steps.
    """

    server: MeasuredServer
    plan: LoadPlan
    recordings: Sequence[str]
    numbers: Sequence[int]
    goal: Goal | None
    max_streams: int
    out: Path


def run_benchmark(order: RunSpec) -> None:
    """Run all steps. Raises StreamerError or ServerFailed if nothing could be measured, or could not be written."""
    _check_writable(order.out)
    console = Console()
    report = LoadReport(
        version=streamer.__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        server=order.server.description,
        command=shlex.join(["streamer", *sys.argv[1:]]),
        machine=_machine(),
        workload=_workload_info(order),
        steps=(),
        compiled=compiled(),
    )
    with RunProgressView(console) as watch:
        steps, capacity = asyncio.run(_search(order, watch) if order.goal else _steps(order, watch))
    report = msgspec.structs.replace(report, steps=steps, capacity=capacity)
    files = _write(report, order.out)
    print_summary(report, files, console)


async def _steps(order: RunSpec, watch: RunProgressView) -> tuple[list[LoadStep], None]:
    return [await _step(order, streams, watch) for streams in order.numbers], None


async def _search(order: RunSpec, watch: RunProgressView) -> tuple[list[LoadStep], CapacityResult]:
    goal, search = order.goal, Search(order.numbers[0], order.max_streams)
    assert goal is not None
    steps: list[LoadStep] = []
    why = ""
    while (streams := search.next) is not None:
        step = await _step(order, streams, watch)
        violation = goal.violation(step)
        watch.on_search_step(streams, violation)
        search.record(not violation)
        why = violation if search.min_failed == streams else why
        steps.append(step)
    limit = f"--max-streams {order.max_streams} was reached" if search.min_failed is None else why
    return sorted(steps, key=lambda step: step.streams), CapacityResult(
        str(goal), search.max_passed, search.min_failed, limit
    )


async def _step(order: RunSpec, streams: int, watch: RunProgressView) -> LoadStep:
    watch.on_step_start(streams)
    async with order.server.target(streams) as target:
        step = await run_step(order.plan, target, streams, watch.on_progress)
    watch.on_step_end(step)
    return step


def _check_writable(out: Path) -> None:
    """Raise ConfigError if the report could not be written: before the measurement, which may take minutes."""
    path = out.with_name(out.name + ".json")
    try:
        with path.open("ab"):
            pass
        if not path.stat().st_size:
            path.unlink()
    except OSError as error:
        raise ConfigError(
            f"--out: expected a name in a directory that can be written, got {path}: {error.strerror}", field="--out"
        ) from None


def _write(report: LoadReport, out: Path) -> list[Path]:
    """Write the files; the page needs matplotlib."""
    as_json = out.with_name(out.name + ".json")
    as_json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    try:
        from streamer.loadtest.html_report import render_page
    except ModuleNotFoundError as missing:
        if missing.name != "matplotlib":
            raise
        return [as_json]
    as_page = out.with_name(out.name + ".html")
    as_page.write_text(render_page(report), encoding="utf-8")
    return [as_json, as_page]


def _workload_info(order: RunSpec) -> WorkloadInfo:
    work = order.plan.workload
    return WorkloadInfo(
        encoding=work.format.encoding,
        sample_rate=work.format.sample_rate,
        chunk_ms=round(work.chunk_s * 1e3, 3),
        chunk_bytes=work.chunk_bytes,
        duty=work.speech_share,
        speech=round(order.plan.tape.speech, 3),
        jitter_ms=work.jitter_ms,
        seed=work.seed,
        ramp_s=work.ramp_s,
        warmup_s=work.warmup_s,
        seconds=work.seconds,
        interim_results=work.interim_results,
        recordings=order.recordings,
        redemption_ms=order.plan.endpointing.redemption_ms,
    )


def _machine() -> MachineInfo:
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    cpu = names[0] if names else platform.processor() or platform.machine()
    return MachineInfo(os.cpu_count() or 1, cpu, f"{platform.system()} {platform.release()}", platform.python_version())
