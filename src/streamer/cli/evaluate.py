"""`streamer evaluate`: error rates, cost and latency of a recogniser on recordings with known words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.weights import load_recogniser

if TYPE_CHECKING:
    import psutil

    from streamer.cli.inprocess import Local
    from streamer.cli.transcribe import Progress
    from streamer.config import LoadedSettings
    from streamer.evaluation.accuracy import Counts, Normalise
    from streamer.evaluation.manifest import ManifestEntry
    from streamer.evaluation.report import File, Latency, Report

    Work = Callable[[ManifestEntry], Awaitable[None]]


def evaluate(
    manifest: Annotated[
        Path,
        typer.Argument(
            help="LibriSpeech's directory or .trans.txt, Common Voice's .tsv, or lines of FILE, tab, words."
        ),
    ],
    *,
    model: Annotated[
        str | None, typer.Option(help="As for streamer serve.", show_default="moonshine", metavar="MODEL")
    ] = None,
    live: Annotated[
        int, typer.Option(help="Files streamed at real time for the latencies; 0: none.", min=0, metavar="N")
    ] = 10,
    streams: Annotated[int, typer.Option(help="Of them at a time.", min=1, max=1_000, metavar="N")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Files at a time otherwise.", min=1, max=64)] = 2,
    limit: Annotated[int, typer.Option(help="The first N recordings only; 0: all.", min=0, metavar="N")] = 0,
    normaliser: Annotated[
        str, typer.Option(help="english (as Whisper's authors do), basic (case, punctuation) or none.")
    ] = "english",
    interim_interval_ms: Annotated[int, typer.Option(help="Speech between two interims.", min=50)] = 300,
    options: Annotated[str, typer.Option(help="For the model, as a client sends them.", metavar="JSON")] = "{}",
    json: Annotated[Path | None, typer.Option(help="Write all figures.", metavar="OUT.json")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with every error marked.", metavar="OUT.html")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON (by its suffix).", metavar="FILE")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting. May be repeated.", metavar="KEY=VALUE")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never fetch weights from the network.")] = False,
) -> None:
    """Evaluate a recogniser. All files run as fast as possible for errors and cost, some in real time for latencies.

    The settings are those of a live server. Ends with 1 when a recording could not be transcribed.
    """
    import asyncio
    import logging

    import msgspec

    from streamer.errors import StreamerError
    from streamer.evaluation.accuracy import compare
    from streamer.evaluation.accuracy import normaliser as normaliser_of
    from streamer.evaluation.manifest import read_manifest
    from streamer.evaluation.page import page as page_of

    logging.basicConfig(level="WARNING", format="%(message)s")
    try:
        recordings = read_manifest(manifest)[: limit or None]
        normalise = normaliser_of(normaliser)
        compare("a", "a", normalise)  # a missing package is named before the work
        loaded = load_recogniser(config, set_ or (), model, offline=offline)
        run = Run(loaded, recordings, normalise, normaliser, jobs, streams, live, interim_interval_ms, options.encode())
        report = asyncio.run(run.play())
    except StreamerError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    _show(report)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    if page is not None:
        page.write_text(page_of(report), "utf-8")
    if report.failed:
        raise typer.Exit(1)


class Run:
    """One evaluation."""

    def __init__(
        self,
        loaded: LoadedSettings,
        recordings: Sequence[ManifestEntry],
        normalise: Normalise,
        normaliser: str,
        jobs: int,
        streams: int,
        live: int,
        interim_interval_ms: int,
        options: bytes,
    ) -> None:
        self._loaded = loaded
        self._recordings = recordings
        self._normalise = normalise
        self._normaliser = normaliser
        self._jobs = jobs
        self._streams = streams
        self._live = live
        self._interval = interim_interval_ms
        self._options = options
        self._files: dict[Path, File] = {}
        self._failed: dict[str, str] = {}

    async def play(self) -> Report:
        """Transcribe everything. Raises ModelLoadError or ConfigError."""
        from time import monotonic

        import psutil

        from streamer.cli.inprocess import serving_here
        from streamer.cli.transcribe_view import progress_of
        from streamer.evaluation.report import report

        process = psutil.Process()
        async with serving_here(self._loaded.settings) as local:
            paths = [str(recording.path) for recording in self._recordings]
            started_at, cpu = monotonic(), _cpu_s(process)
            with progress_of(paths) as progress:
                await self._each(self._recordings, self._jobs, lambda one: self._accuracy(local, one, progress))
            wall_s, cpu_s = monotonic() - started_at, _cpu_s(process) - cpu
            good = [recording for recording in self._recordings if recording.path in self._files]
            some = good[: self._live]
            with progress_of([str(recording.path) for recording in some]) as progress:
                await self._each(some, self._streams, lambda one: self._latency(local, one, progress))
        return report(
            [self._files[recording.path] for recording in good],
            model=self._loaded.settings.server.model,
            normaliser=self._normaliser,
            wall_s=wall_s,
            cpu_s=cpu_s,
            jobs=self._jobs,
            streams=self._streams,
            failed=self._failed,
        )

    async def _each(self, recordings: Sequence[ManifestEntry], at_a_time: int, work: Work) -> None:
        import asyncio

        from streamer.errors import StreamerError

        places = asyncio.Semaphore(at_a_time)

        async def one(recording: ManifestEntry) -> None:
            async with places:
                try:
                    await work(recording)
                except StreamerError as error:
                    self._failed[str(recording.path)] = error.message

        async with asyncio.TaskGroup() as tasks:
            for recording in recordings:
                tasks.create_task(one(recording))

    async def _accuracy(self, local: Local, recording: ManifestEntry, progress: Progress) -> None:
        from streamer.cli.transcribe import recognise
        from streamer.evaluation.accuracy import compare
        from streamer.evaluation.report import File

        seconds, parts = await recognise(local, str(recording.path), self._options, progress)
        text = " ".join(part.text for part in parts if part.text)
        accuracy = compare(recording.text, text, self._normalise)
        self._files[recording.path] = File(str(recording.path), seconds, recording.text, text, accuracy)

    async def _latency(self, local: Local, recording: ManifestEntry, progress: Progress) -> None:
        from msgspec.structs import replace

        from streamer.cli.live_latency import latencies

        first, final = await latencies(local, recording.path, self._options, self._interval, progress)
        self._files[recording.path] = replace(self._files[recording.path], first_s=first, final_s=final)


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU seconds of the process and its workers until now."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("file", "s", "words", "sub", "del", "ins", "WER", "CER", "first interim", "final", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for file in report.files:
        table.add_row(*_row(Path(file.path).name, file.seconds, file.accuracy.words, file.accuracy.characters.rate),
                      _most(file.first_s), _most(file.final_s))  # fmt: skip
    table.add_section()
    table.add_row(*_row("all", report.seconds, report.words, report.character_error_rate),
                  _range(report.first_interim), _range(report.final))  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{report.model}: real-time factor {report.real_time_factor:.3f} ({report.jobs} at a time), "
        f"{report.cpu_factor:.3f} s of CPU for a second of audio"
    )
    for path, why in report.failed.items():
        typer.echo(f"error: {path}: {why}", err=True)


def _row(name: str, seconds: float, words: Counts, characters: float) -> tuple[str, ...]:
    counts = (words.total, words.substitutions, words.deletions, words.insertions)
    return (name, f"{seconds:.1f}", *map(str, counts), f"{100 * words.rate:.1f} %", f"{100 * characters:.1f} %")


def _most(seconds: Sequence[float]) -> str:
    return f"{1000 * max(seconds):.0f} ms" if seconds else "-"


def _range(latency: Latency) -> str:
    return f"{latency.p50_ms:.0f} / {latency.p95_ms:.0f} ms" if latency.count else "-"
