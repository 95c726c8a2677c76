"""`streamer check`: tests a model, measures it, and recommends settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.overrides import overrides
from streamer.cli.weights import fetch_weights, specs

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.cli.profiling import ModelProfile, RecommendedSettings
    from streamer.inference.process_profile import ProcessProfile


def check(
    model: Annotated[
        str | None,
        typer.Argument(
            help="package.module:name, path/to/file.py:name, or a built-in model; the name of one of several models.",
            show_default="stub, or all of several models",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings file, TOML or JSON (by its suffix).", metavar="FILE")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, such as model.delay=0.5. Can be repeated.", metavar="KEY=VALUE"),
    ] = None,
    dialects: Annotated[
        str | None, typer.Option(help="Server whose protocols of other services are tried.", metavar="URL")
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="Key or token, if that server requires one.", envvar="STREAMER_TOKEN")
    ] = None,
) -> None:
    """Run a model on silence, noise and a recording, and recommend settings for it.

    With --dialects, try the protocols of other services on a running server instead.

    An error in the model is shown with its traceback. A call that exceeds the model's time-out is given up.
    Exit codes: 1 if the model fails on one of them, 2 if it cannot be loaded. With --dialects: 1 if a protocol fails,
    2 if the server does not answer.
    """
    import asyncio
    import logging

    if dialects is not None:
        from streamer.cli.check_dialects import run

        run(dialects, token)
        return

    from rich.console import Console

    from streamer.cli.profiling import profile_model
    from streamer.cli.refusal import print_error
    from streamer.config import load
    from streamer.errors import ConfigError, ModelLoadError

    logging.basicConfig(level="CRITICAL")  # problems are shown in the table
    console = Console()
    try:
        loaded = load(config, flags=list(overrides(set_ or (), ("MODEL", "server.model", model))))
        fetch_weights(loaded)
        chosen = specs(loaded.settings)
        if loaded.settings.models and model is not None:
            chosen = {model: chosen[model]}
        works = True
        for name, spec in chosen.items():
            with console.status("loading the model and timing calls at each batch size"):
                findings = asyncio.run(profile_model(spec, loaded.settings.ray))
            if name:
                console.print(f"\n\\[models.{name}]")
            show(findings, console)
            works = works and findings.is_working
    except (ConfigError, ModelLoadError) as error:
        print_error(error)
        raise typer.Exit(2) from None
    if not works:
        raise typer.Exit(1)


def show(findings: ModelProfile, console: Console) -> None:
    """Print the tables and the recommendation."""
    config = findings.config
    kind = "stateful" if config.stateful else "stateless"
    console.print(
        f"[bold]{config.name}[/bold]: {kind}, {config.sample_rate} Hz, executor {config.executor}, {config.workers} "
        f"worker{'s' * (config.workers > 1)}, batches of {config.max_batch_size} at most"
        f"{f', {config.max_concurrent} items at a time' if config.max_concurrent else ''}",
        highlight=False,
        soft_wrap=True,
    )
    if config.word_times:
        source = "the model" if config.word_times == "model" else "estimated from the lengths of the words"
        console.print(f"times of words: {source}", highlight=False)
    else:
        text = "no transcripts (word_times is not set), hence no dialects of other speech services"
        console.print(text, highlight=False, soft_wrap=True)
    _answers(findings, console)
    _tracebacks(findings, console)
    _paces(findings, console)
    _inside(findings, console)
    if (advice := findings.recommendation) is not None:
        _advise(advice, findings, console)


def _answers(findings: ModelProfile, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("input", "works", "seconds", "output, as JSON", title_justify="left", expand=False)
    for answer in findings.answers:
        mark = Text("no", "bold red") if answer.error else Text("yes", "green")
        text = Text(_short(answer.error, 200) or _short(answer.output), "red" if answer.error else "")
        table.add_row(answer.input, mark, f"{answer.seconds:.3f}", text)
    console.print(table)


def _tracebacks(findings: ModelProfile, console: Console) -> None:
    """Show each traceback once, with the inputs on which it came."""
    from rich.text import Text

    inputs: dict[str, list[str]] = {}
    for answer in findings.answers:
        if answer.traceback:
            inputs.setdefault(answer.traceback, []).append(answer.input)
    for traceback, names in inputs.items():
        console.print(Text(f"\non {', '.join(names)}:", "bold"))
        console.print(Text(traceback, "red"), soft_wrap=True)


def _paces(findings: ModelProfile, console: Console) -> None:
    from rich.table import Table

    if not findings.timings:
        return
    table = Table("batch", "seconds per call", "per item", "real-time factor", "gain")
    for column in table.columns:
        column.justify = "right"
    one = findings.timings[0]
    for pace in findings.timings:
        gain = one.item_s / pace.item_s if pace.item_s else 1.0
        table.add_row(str(pace.size), f"{pace.call_s:.4f}", f"{pace.item_s:.4f}", f"{pace.rtf:.4f}", f"{gain:.2f}x")
    console.print(table)


def _inside(findings: ModelProfile, console: Console) -> None:
    from rich.table import Table

    if not findings.is_working:
        return

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    if findings.process is None:
        table.add_row("in a process of its own", f"[red]{findings.probe_error}[/red]")
    else:
        for row in _facts(findings.process):
            table.add_row(*row)
    console.print(table)


def _facts(probed: ProcessProfile) -> list[tuple[str, str]]:
    from streamer.cli.profiling import GIL_FREE

    frees = "yes" if probed.gil_free >= GIL_FREE else "no"
    return [
        ("load and first call", f"{probed.load_s:.2f} s"),
        ("memory per worker", f"{probed.memory_bytes / 2**20:.0f} MiB"),
        ("cores in use during a call", f"{probed.cores:.1f}"),
        ("releases the GIL", f"{frees} (other threads keep {probed.gil_free:.0%} of a core)"),
    ]


def _advise(advice: RecommendedSettings, findings: ModelProfile, console: Console) -> None:
    from streamer.cli.profiling import HEADROOM

    config = findings.config
    console.print("\n[bold]Suggested[/bold]")
    for name, value, now in (
        ("executor", advice.executor, config.executor),
        ("workers", advice.workers, config.workers),
        ("max_batch_size", advice.batch_size, config.max_batch_size),
    ):
        console.print(f"  {name} = {value!r}" + ("" if value == now else f"  [dim](now {now!r})[/dim]"))
    if advice.executor == "thread":
        console.print("  [dim]('process' all the same where a call may crash or hang: a thread cannot be killed)[/dim]")
    console.print(
        f"\nWith these, {findings.cores} cores hold about [bold]{advice.streams}[/bold] live streams of continuous "
        f"speech\n({HEADROOM:.0%} of the pace above; without interims, which cost extra).",
        highlight=False,
        soft_wrap=True,
    )


def _short(text: str, max_chars: int = 60) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
