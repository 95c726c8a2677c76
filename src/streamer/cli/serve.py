"""`streamer serve`: one model, served by one process or by several."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.overrides import overrides
from streamer.cli.weights import fetch_weights

if TYPE_CHECKING:
    from streamer.config import Loaded
    from streamer.runtime.control import Ready


def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="package.module:name, path/to/file.py:name, or a built-in model, with weights where it has some: "
            "moonshine:tiny-en (streamer models lists them).",
            show_default="stub",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.", show_default="127.0.0.1")] = None,
    port: Annotated[
        str | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8080", metavar="PORT")
    ] = None,
    grpc_port: Annotated[
        str | None,
        typer.Option(help="TCP port of gRPC; 0: none, -1: a free one.", show_default="50051", metavar="PORT"),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(help="Serving processes on the same ports (more than one: Linux).", show_default="1", metavar="N"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON (by its suffix).", metavar="FILE")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as limits.max_channels=2. May be repeated.", metavar="KEY=VALUE"),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never fetch weights from the network (STREAMER_OFFLINE=1 says the same).")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as TOML, with what they mean, and end.")
    ] = False,
) -> None:
    """Serve a model over WebSocket and gRPC.

    Settings come from FILE, then STREAMER_SECTION__KEY variables, then flags. SIGTERM and Ctrl-C drain: running
    streams are finished; a second signal ends at once.
    """
    began = monotonic()

    from streamer.config import describe, load
    from streamer.errors import ConfigError, ListenFailed, ModelLoadError

    flags = overrides(
        set_ or (),
        ("MODEL", "server.model", model),
        ("--host", "server.host", host),
        ("--port", "server.port", port),
        ("--grpc-port", "grpc.port", grpc_port),
        ("--workers", "server.processes", workers),
    )
    try:
        loaded = load(config, flags=list(flags))
        if print_config:
            typer.echo(describe(loaded))
            return
        fetch_weights(loaded, offline=offline)
        code = _run(loaded, began)
    except (ConfigError, ListenFailed, ModelLoadError) as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1 if isinstance(error, ListenFailed) else 2) from None
    raise typer.Exit(code)


def _run(loaded: Loaded, began: float) -> int:
    """Serve until the end; the exit code. Raises what keeps a server from coming up."""
    import asyncio

    from streamer.serving.loop import loop_factory
    from streamer.telemetry.logs import Logs

    settings = loaded.settings

    def announce(ready: Ready) -> None:
        _announce(ready, settings.server.processes, monotonic() - began, as_log=settings.log.format == "json")

    with (
        Logs(settings.log.level, settings.log.format) as logs,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        if settings.server.processes == 1:
            from streamer.serving.server import serve_alone

            runner.run(serve_alone(loaded, logs, announce))
            return 0
        from streamer.serving.several import supervise

        outcome = runner.run(supervise(loaded, announce))
    if outcome.problem is not None:
        typer.echo(f"error: {outcome.problem}", err=True)
    return outcome.exit_code


def _announce(ready: Ready, processes: int, took_s: float, *, as_log: bool) -> None:
    """Scripts wait for the first line; people read the rest. Readers of JSON get it as records."""
    import logging

    times = f" in {processes} processes" if processes > 1 else ""
    model = f"model {ready.model} at {ready.sample_rate} Hz{times}, ready in {took_s:.1f} s"
    urls = [url for url in (ready.url, ready.grpc_url) if url]
    if as_log:
        for line in (*(f"listening on {url}" for url in urls), model):
            logging.getLogger(__name__).info(line)
        return
    for url in urls:
        typer.echo(f"listening on {typer.style(url, bold=True)}", err=True)
    address = ready.url.replace("http", "ws", 1) + "/api/v2/segmented"
    typer.secho(f"{model}; try: streamer client -i FILE -a {address}", dim=True, err=True)
