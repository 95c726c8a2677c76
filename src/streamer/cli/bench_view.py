"""What `streamer bench` shows: a line that lives while a step runs, and the table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from streamer.bench.results import Distribution, Report, Step
from streamer.bench.run import News
from streamer.bench.verdict import remarks


class Watch:
    """Progress on the terminal; where there is none, a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", style="dim"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", visible=False, words="")

    def __enter__(self) -> Watch:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def starting(self, streams: int) -> None:
        self._progress.reset(
            self._task, description=f"{streams} streams", total=1, completed=0, visible=True, words="connecting"
        )

    def news(self, news: News) -> None:
        progress = news.progress
        words = [f"{min(news.seconds, news.of):.0f} of {news.of:.0f} s", f"{progress.live} live"]
        words.append(f"{progress.results} results")
        if news.cores is not None:
            words.append(f"server {news.cores:.2f} cores")
        words.append(f"generator late by {progress.late_s * 1e3:.0f} ms at most")
        self._progress.update(self._task, completed=news.seconds, total=news.of, words=", ".join(words))

    def ended(self, step: Step) -> None:
        self._progress.update(self._task, visible=False)
        if not self._console.is_terminal:
            final, lag = _ms(step.final, "p99_ms"), _ms(step.lag, "p99_ms")
            self._console.print(f"{step.streams} streams: final p99 {final} ms, lag p99 {lag} ms", highlight=False)

    def judged(self, streams: int, missed: str) -> None:
        self._console.print(
            Text.assemble(f"{streams} streams: ", ("not held: " + missed, "red") if missed else ("held", "green"))
        )


def conclude(report: Report, files: Sequence[Path], console: Console) -> None:
    """The table, what has to be said about it, where the files are."""
    console.print(_table(report.steps))
    console.print(
        "[dim]Latencies in milliseconds. final: from the audio that decided the end of an utterance to its result;"
        " whole: from its last word, the silence that endpointing waits for included.[/dim]",
    )
    for remark in remarks(report):
        console.print(Text(f"! {remark}", "yellow"))
    if report.capacity is not None:
        found = report.capacity
        console.print(f"[bold]{found.most} streams[/bold] hold {found.goal} (the end: {found.why})", highlight=False)
    console.print("written: " + ", ".join(str(file) for file in files), highlight=False, soft_wrap=True)
    if len(files) == 1:
        console.print("no page with plots: pip install 'streamer\\[plot]'", highlight=False)


def _table(steps: Sequence[Step]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("\nstreams", "first\np50", "final\np50", "\np99", "whole\np50", "lag\np99"):
        table.add_column(heading, justify="right", no_wrap=True)
    interims = any(step.interim.count for step in steps)
    if interims:
        table.add_column("interim\np99", justify="right")
    for heading in ("CPU ms/\nstream·s", "\ncores", "KiB/\nstream", "\nlost", "late\np99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in steps:
        row = [
            str(step.streams), _ms(step.first, "p50_ms"), _ms(step.final, "p50_ms"),
            _ms(step.final, "p99_ms"), _ms(step.final_whole, "p50_ms"), _ms(step.lag, "p99_ms"),
        ]  # fmt: skip
        row += [_ms(step.interim, "p99_ms")] * interims
        use = step.server
        row += (
            [f"{use.cpu_ms_per_stream_s:.2f}", f"{use.cores:.2f}", f"{use.rss_per_stream / 1024:.0f}"]
            if use
            else ["-"] * 3
        )
        row += [str(step.frames.lost + step.frames.doubled), _ms(step.load.late, "p99_ms")]
        table.add_row(*row, style=None if step.clean and not step.load.was_late else "yellow")
    return table


def _ms(distribution: Distribution, name: str) -> str:
    if not distribution.count:
        return "-"
    value: float = getattr(distribution, name)
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
