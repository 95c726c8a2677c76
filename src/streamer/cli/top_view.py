"""The screen of `streamer top`: tables, with problems in colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamer.telemetry.metrics import PipelineStage, WorkerState
from streamer.telemetry.scrape import Overview, Quantiles, is_known

SLOW_S = {"final": 1.5, "result lag": 10.0, "queue": 1.0, "loop lag": 0.1}
"""Seconds above which a p95 is red."""
NO_VALUE = Text("-", style="dim")


def screen(url: str, now: Overview) -> RenderableType:
    """Return all figures on 80 columns."""
    return Group(
        _head(url, now),
        Columns([_sessions(now), _work(now)], padding=(0, 4)),
        _latencies(now),
    )


def _head(url: str, now: Overview) -> Text:
    state, style = ("ready", "bold green") if now.ready else ("not ready", "bold red")
    if now.draining:
        state, style = "draining", "bold yellow"
    line = Text.assemble(("streamer ", "bold"), f"{now.version}  {url}  model {now.model}  ", (state, style))
    if is_known(now.cores):
        line.append(f"\n{now.cores:.2f} cores  {now.memory_bytes / 2**20:.0f} MiB", style="dim")
    return line


def _sessions(now: Overview) -> Table:
    table = _table("sessions", "", "open")
    for (transport, mode), count in sorted(now.sessions.items()):
        if count or transport == "websocket":
            table.add_row(f"{transport} {mode}", str(count))
    table.add_row("started /s", f"{now.sessions_started:.2f}")
    for reason, rate in sorted(now.sessions_closed.items()):
        if rate > 0:
            table.add_row(f"closed, {reason} /s", f"{rate:.2f}")
    table.add_row("refused /s", _bad_above_zero(now.refusals))
    return table


def _work(now: Overview) -> Table:
    table = _table("work", "", "now")
    table.add_row("audio s/s", f"{now.audio:.1f}")
    table.add_row("processed s/s", f"{now.processed:.1f}")
    table.add_row("buffered", f"{now.buffered_bytes / 1024:.0f} KiB")
    for stage in PipelineStage:
        table.add_row(f"rtf {stage.replace('_', ' ')}", _figure(now.rtf[stage], bad=1.0))
    busy, down = now.workers[WorkerState.BUSY], now.workers[WorkerState.DOWN]
    workers = Text(f"{busy} busy of {sum(now.workers.values())}")
    if down:
        workers.append(f", {down} down", style="bold red")
    table.add_row("workers", workers)
    table.add_row("queued jobs", str(now.pending))
    table.add_row("jobs per call", _figure(now.batch))
    table.add_row("failures /s", _bad_above_zero(now.failures))
    table.add_row("telemetry lost /s", _bad_above_zero(now.telemetry_lost))
    return table


def _latencies(now: Overview) -> Table:
    table = _table("seconds", "", "p50", "p95", "p99", "count")
    for title, spread in now.latencies.items():
        table.add_row(title, *_quantiles(spread, SLOW_S.get(title)))
    return table


def _quantiles(spread: Quantiles, slow_s: float | None) -> Iterable[Text]:
    for value in (spread.p50, spread.p95, spread.p99):
        yield _figure(value, bad=slow_s)
    yield Text(str(spread.count), style="dim")


def _figure(value: float, *, bad: float | None = None) -> Text:
    if not is_known(value):
        return NO_VALUE
    return Text(f"{value:.3f}", style="bold red" if bad is not None and value > bad else "")


def _bad_above_zero(rate: float) -> Text:
    return Text(f"{rate:.2f}", style="bold red" if rate > 0 else "")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    return table
