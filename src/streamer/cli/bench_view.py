"""The output of `streamer bench`: a live line during a step, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from streamer.errors import install_command
from streamer.loadtest.diagnostics import diagnose, format_duration, search_end_text
from streamer.loadtest.results import Distribution, LoadReport, LoadStep
from streamer.loadtest.run import StepProgress


class RunProgressView:
    """Progress on the terminal; without a terminal, a line for each step."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=14),
            TextColumn("{task.fields[words]}", style="dim"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", visible=False, words="")

    def __enter__(self) -> RunProgressView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def on_step_start(self, streams: int) -> None:
        self._progress.reset(
            self._task, description=f"{streams} streams", total=1, completed=0, visible=True, words="connecting"
        )

    def on_progress(self, news: StepProgress) -> None:
        progress = news.progress
        words = [f"{min(news.seconds, news.total_s):.0f}/{news.total_s:.0f} s", f"{progress.results} results"]
        if news.cores is not None:
            words.append(f"{news.cores:.2f} cores")
        words.append(f"load {progress.late_s * 1e3:.0f} ms late")
        if progress.live < news.streams:
            words.append(f"{progress.live} live")
        self._progress.update(self._task, completed=news.seconds, total=news.total_s, words=", ".join(words))

    def on_step_end(self, step: LoadStep) -> None:
        self._progress.update(self._task, visible=False)
        if not self._console.is_terminal:
            figures = {"final": step.final, "lag": step.lag}
            words = ", ".join(f"{name} p99 {format_duration(one.p99_ms)}" for name, one in figures.items() if one.count)
            self._console.print(f"{step.streams} streams: {words or 'no results'}", highlight=False)

    def on_search_step(self, streams: int, violation: str) -> None:
        self._console.print(
            Text.assemble(
                f"{streams} streams: ", ("goal missed: " + violation, "red") if violation else ("goal met", "green")
            )
        )


def print_summary(report: LoadReport, files: Sequence[Path], console: Console) -> None:
    """Print the table, the remarks, and the names of the files."""
    console.print(_table(report.steps))
    console.print(
        "[dim]Milliseconds. final: from the audio that ended an utterance to its result. whole: from the last word to"
        " the result. lag: of all results. audio: from audio in to the audio out in its place. gaps: silence that a"
        " listener with 40 ms of buffer hears. CPU: per second of one stream. late: delay of the load generator.[/dim]",
    )
    for remark in diagnose(report):
        console.print(Text(f"! {remark}", "yellow"))
    if report.capacity is not None:
        found = report.capacity
        console.print(f"[bold]{found.most} streams[/bold] hold {found.goal}; {search_end_text(found)}", highlight=False)
    console.print("written: " + ", ".join(str(file) for file in files), highlight=False, soft_wrap=True)
    if len(files) == 1:
        console.print(Text(f"no HTML page: it needs matplotlib, {install_command('plot')}"))


Column = tuple[str, Callable[[LoadStep], str]]


def _columns(steps: Sequence[LoadStep]) -> Iterator[Column]:
    """Yield headings of two lines and their cells, without empty columns."""
    yield "\nstreams", lambda step: str(step.streams)
    interims = any(step.interim.count for step in steps)
    if not interims:  # 80 columns have space for one of the two
        yield "first\np50", lambda step: _ms(step.first, "p50_ms")
    if any(step.final.count for step in steps):
        yield "final\np50", lambda step: _ms(step.final, "p50_ms")
        yield "\np99", lambda step: _ms(step.final, "p99_ms")
        yield "whole\np50", lambda step: _ms(step.final_whole, "p50_ms")
    else:
        yield "lag\np50", lambda step: _ms(step.lag, "p50_ms")
        yield "\np99", lambda step: _ms(step.lag, "p99_ms")
    if interims:
        yield "interim\np50", lambda step: _ms(step.interim, "p50_ms")
        yield "\np99", lambda step: _ms(step.interim, "p99_ms")
    if any(step.audio_out_s for step in steps):
        if any(step.audio.count for step in steps):
            yield "audio\np50", lambda step: _ms(step.audio, "p50_ms")
            yield "\np99", lambda step: _ms(step.audio, "p99_ms")
        yield "gaps\n%", lambda step: f"{100 * step.gap_s / step.audio_out_s:.2f}" if step.audio_out_s else "-"
    if any(step.server for step in steps):
        yield "CPU\nms/s", lambda step: f"{step.server.cpu_ms_per_stream_s:.2f}" if step.server else "-"
        yield "\ncores", lambda step: f"{step.server.cores:.2f}" if step.server else "-"
        yield "KiB/\nstream", lambda step: f"{max(0, step.server.rss_per_stream) / 1024:.0f}" if step.server else "-"
    yield "\nlost", lambda step: str(step.frames.lost + step.frames.doubled)
    yield "late\np99", lambda step: _ms(step.load.late, "p99_ms")


def _table(steps: Sequence[LoadStep]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    columns = list(_columns(steps))
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for step in steps:
        style = None if step.is_clean and not step.load.was_late else "yellow"
        table.add_row(*(cell(step) for _, cell in columns), style=style)
    return table


def _ms(distribution: Distribution, name: str) -> str:
    if not distribution.count:
        return "-"
    return format_duration(getattr(distribution, name)).removesuffix(" ms").replace(" ", "")
