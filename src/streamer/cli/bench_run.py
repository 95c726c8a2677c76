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
from streamer.bench.callers import caller_of
from streamer.bench.capacity import Goal, Search
from streamer.bench.results import Capacity, Machine, Report, Said, Step
from streamer.bench.run import Plan, Target, run_step
from streamer.build import compiled
from streamer.cli.bench_view import Watch, conclude
from streamer.cli.child import serving
from streamer.errors import ConfigError
from streamer.session.events import Mode

GRPC = "grpc"
_STUB = "stub"
_HEADROOM = 1_000
"""Extra sessions of a private server, so that it refuses no stream."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server to measure: an address, or a model to start one with."""

    address: str | None
    model: str | None
    settings: tuple[str, ...]
    endpoint: str
    mode: Mode
    pid: int | None
    token: str | None

    def check(self, plan: Plan) -> Server:
        """Return self. Raises ConfigError, BadRequest or InvalidFormat for an invalid or unsupported option."""
        if (self.address is None) == (self.model is None):
            raise ConfigError(field="server", expected="one of --address URL and --serve MODEL", got="both or neither")
        if self.model is not None and self.pid is not None:
            raise ConfigError(field="--server-pid", expected="only with --address", got=self.pid)
        target = self._at(self.address or self._url("http://localhost:1", "grpc://localhost:1"))
        caller_of(target.url).dialect().encode(target.start(plan))
        return self

    @property
    def words(self) -> str:
        return self.address or f"{self.endpoint} of streamer serve {shlex.join((self.model or '', *self.settings))}"

    @asynccontextmanager
    async def target(self, streams: int) -> AsyncIterator[Target]:
        """Yield the running server, or one of our own with a sufficient limit of sessions."""
        if self.address is not None:
            yield self._at(self.address)
            return
        assert self.model is not None
        room = ("--set", f"server.max_sessions={streams + _HEADROOM}", "--set", "log.level=warning")
        async with serving(self.model, *room, *self.settings, grpc=self.endpoint == GRPC) as child:
            yield self._at(self._url(child.address, child.grpc), child.pid)

    def _at(self, url: str, pid: int | None = None) -> Target:
        return Target(url, pid or self.pid, self.token, self.mode, counts=self.model == _STUB)

    def _url(self, http: str, grpc: str) -> str:
        return grpc if self.endpoint == GRPC else http.replace("http", "ws", 1) + self.endpoint


@dataclass(frozen=True, slots=True)
class Order:
    """The requested run.

    `goal`: search for the capacity, starting at the first number; otherwise the numbers are steps.
    """

    server: Server
    plan: Plan
    recordings: Sequence[str]
    numbers: Sequence[int]
    goal: Goal | None
    max_streams: int
    out: Path


def perform(order: Order) -> None:
    """Run all steps. Raises StreamerError or ServerFailed if nothing could be measured, or could not be written."""
    _check_writable(order.out)
    console = Console()
    report = Report(
        version=streamer.__version__,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        server=order.server.words,
        command=shlex.join(["streamer", *sys.argv[1:]]),
        machine=_machine(),
        workload=_said(order),
        steps=(),
        compiled=compiled(),
    )
    with Watch(console) as watch:
        steps, capacity = asyncio.run(_search(order, watch) if order.goal else _steps(order, watch))
    report = msgspec.structs.replace(report, steps=steps, capacity=capacity)
    files = _write(report, order.out)
    conclude(report, files, console)


async def _steps(order: Order, watch: Watch) -> tuple[list[Step], None]:
    return [await _step(order, streams, watch) for streams in order.numbers], None


async def _search(order: Order, watch: Watch) -> tuple[list[Step], Capacity]:
    goal, search = order.goal, Search(order.numbers[0], order.max_streams)
    assert goal is not None
    steps: list[Step] = []
    why = ""
    while (streams := search.next) is not None:
        step = await _step(order, streams, watch)
        missed = goal.missed(step)
        watch.judged(streams, missed)
        search.told(not missed)
        why = missed if search.too_many == streams else why
        steps.append(step)
    limit = f"--max-streams {order.max_streams} was reached" if search.too_many is None else why
    return sorted(steps, key=lambda step: step.streams), Capacity(str(goal), search.most, search.too_many, limit)


async def _step(order: Order, streams: int, watch: Watch) -> Step:
    watch.starting(streams)
    async with order.server.target(streams) as target:
        step = await run_step(order.plan, target, streams, watch.news)
    watch.ended(step)
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


def _write(report: Report, out: Path) -> list[Path]:
    """Write the files; the page needs matplotlib."""
    as_json = out.with_name(out.name + ".json")
    as_json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    try:
        from streamer.bench.page import page
    except ModuleNotFoundError as missing:
        if missing.name != "matplotlib":
            raise
        return [as_json]
    as_page = out.with_name(out.name + ".html")
    as_page.write_text(page(report), encoding="utf-8")
    return [as_json, as_page]


def _said(order: Order) -> Said:
    work = order.plan.workload
    return Said(
        encoding=work.format.encoding,
        sample_rate=work.format.sample_rate,
        chunk_ms=round(work.chunk_s * 1e3, 3),
        chunk_bytes=work.chunk_bytes,
        duty=work.duty,
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


def _machine() -> Machine:
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    cpu = names[0] if names else platform.processor() or platform.machine()
    return Machine(os.cpu_count() or 1, cpu, f"{platform.system()} {platform.release()}", platform.python_version())
