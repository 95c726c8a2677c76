"""`streamer serve`: serves a model, in one process or several."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.overrides import overrides
from streamer.cli.weights import fetch_weights

if TYPE_CHECKING:
    from streamer.config import LoadedSettings
    from streamer.supervision.ipc import Ready

Dev = Annotated[bool, typer.Option("--dev", help="Restart the server when a file beside the model changes.")]

File = Annotated[Path | None, typer.Option(help="Settings file, TOML or JSON (by its suffix).", metavar="FILE")]
Names = Annotated[
    str | None,
    typer.Option(
        help="Protocols of other services to serve: names, separated by commas, or all, none, auto.",
        show_default="auto: those on the same port, if the model returns transcripts",
        metavar="NAMES",
    ),
]


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="package.module:name, path/to/file.py:name, or a built-in model, such as moonshine.",
            show_default="stub",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.", show_default="127.0.0.1")] = None,
    port: Annotated[
        str | None, typer.Option(help="TCP port. 0: a free port.", show_default="8080", metavar="PORT")
    ] = None,
    grpc_port: Annotated[
        str | None,
        typer.Option(help="TCP port of gRPC. 0: no gRPC, -1: a free port.", show_default="50051", metavar="PORT"),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Server processes on the same ports (more than one: Linux only).", show_default="1", metavar="N"
        ),
    ] = None,
    dialects: Names = None,
    config: File = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, such as limits.max_channels=2. Can be repeated.", metavar="KEY=VALUE"),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights (as STREAMER_OFFLINE=1).")] = False,
    dev: Dev = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as TOML, with explanations, and exit.")
    ] = False,
) -> None:
    """Serve a model over WebSocket and gRPC.

    Settings are read from FILE, then from STREAMER_SECTION__KEY variables, then from flags. SIGTERM and Ctrl-C drain
    the server: running streams are finished. A second signal stops it immediately.
    """
    started_at = monotonic()

    from streamer.cli.refusal import print_error
    from streamer.config import describe, load
    from streamer.errors import ConfigError, ListenFailed, ModelLoadError

    flags = overrides(
        set_ or (),
        ("MODEL", "server.model", model),
        ("--host", "server.host", host),
        ("--port", "server.port", port),
        ("--grpc-port", "grpc.port", grpc_port),
        ("--workers", "server.processes", workers),
        ("--dialects", "dialects.serve", dialects),
    )
    try:
        loaded = load(config, flags=list(flags))
        if print_config:
            typer.echo(describe(loaded))
            return
        fetch_weights(loaded, offline=offline)
        code = _run_again_after_changes(loaded) if dev else _run(loaded, started_at)
    except (ConfigError, ListenFailed, ModelLoadError) as error:
        print_error(error)
        raise typer.Exit(1 if isinstance(error, ListenFailed) else 2) from None
    raise typer.Exit(code)


def _run_again_after_changes(loaded: LoadedSettings) -> int:
    from streamer.cli.dev import serve_and_reload

    serve_and_reload(loaded)
    return 0


def _run(loaded: LoadedSettings, started_at: float) -> int:
    """Serve until the end; return the exit code. Raises the errors that prevent a start."""
    import asyncio

    from streamer.supervision.single_process import loop_factory
    from streamer.telemetry.logs import Logs

    settings = loaded.settings

    def announce(ready: Ready) -> None:
        _print_ready(ready, settings.server.processes, monotonic() - started_at, as_log=settings.log.format == "json")

    with (
        Logs(settings.log.level, settings.log.format) as logs,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        if settings.server.processes == 1:
            from streamer.supervision.single_process import run_single_process

            runner.run(run_single_process(loaded, logs, announce))
            return 0
        from streamer.supervision.multi_process import run_multi_process

        outcome = runner.run(run_multi_process(loaded, announce))
    if outcome.detail:
        from streamer.cli.refusal import show_traceback

        show_traceback(outcome.detail)
    if outcome.problem is not None:
        typer.echo(f"error: {outcome.problem}", err=True)
    return outcome.exit_code


def _print_ready(ready: Ready, processes: int, took_s: float, *, as_log: bool) -> None:
    """Print the address on the first line, for scripts, and then details. JSON logs get them as records."""
    import logging

    times = f" in {processes} processes" if processes > 1 else ""
    model = f"model {ready.model} at {ready.sample_rate} Hz"
    if ready.models:
        model = f"models {', '.join(ready.models)} (default: {ready.model})"
    model = f"{model}{times}, ready in {took_s:.1f} s"
    lines = [model]
    if ready.dialects:
        lines.append(f"protocols of other services: {', '.join(ready.dialects)}")
    urls = [url for url in (ready.url, ready.grpc_url) if url]
    if as_log:
        for line in (*(f"listening on {url}" for url in urls), *lines):
            logging.getLogger(__name__).info(line)
        return
    for url in urls:
        typer.echo(f"listening on {typer.style(url, bold=True)}", err=True)
    for line in lines[1:]:
        typer.secho(line, dim=True, err=True)
    address = ready.url.replace("http", "ws", 1) + "/api/v2/segmented"
    typer.secho(f"{model}; try: streamer client -i FILE -a {address}", dim=True, err=True)
