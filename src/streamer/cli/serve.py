"""`streamer serve`: one process that serves one model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.overrides import overrides

if TYPE_CHECKING:
    from streamer.app import App
    from streamer.config import Loaded


def serve(
    model: Annotated[
        str | None,
        typer.Argument(help="package.module:name, path/to/file.py:name, or a built-in model.", show_default="stub"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to bind.", show_default="127.0.0.1")] = None,
    port: Annotated[
        str | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8080", metavar="PORT")
    ] = None,
    grpc_port: Annotated[
        str | None,
        typer.Option(help="TCP port of gRPC; 0: none, -1: a free one.", show_default="50051", metavar="PORT"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON (by its suffix).", metavar="FILE")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as limits.max_channels=2. May be repeated.", metavar="KEY=VALUE"),
    ] = None,
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
    )
    try:
        loaded = load(config, flags=list(flags))
        if print_config:
            typer.echo(describe(loaded))
            return
        _run(loaded, began)
    except ListenFailed as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1) from None
    except (ConfigError, ModelLoadError) as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None


def _run(loaded: Loaded, began: float) -> None:
    """Serve until a signal."""
    import asyncio

    from streamer.app import App, Grpc, loop_factory, serve
    from streamer.errors import ConfigError
    from streamer.telemetry.guard import Guard
    from streamer.telemetry.logs import Logs

    settings = loaded.settings.log

    async def main(logs: Logs) -> None:
        asked_for = loaded.origin("grpc.port") != "default"
        try:
            app = App(loaded.settings, grpc=Grpc.NEEDED if asked_for else Grpc.IF_POSSIBLE)
        except ConfigError as error:  # the model knows its parameters, we know who set them
            raise ConfigError(f"{loaded.origin(error.field or '')}: {error.message}") from None
        app.telemetry.watch_log(logs)
        with Guard(asyncio.get_running_loop(), app.telemetry.broken):
            await serve(app, lambda: _announce(app, monotonic() - began, as_log=settings.format == "json"))

    with Logs(settings.level, settings.format) as logs, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main(logs))


def _announce(app: App, took_s: float, *, as_log: bool) -> None:
    """Scripts wait for the first line; people read the rest. Readers of JSON get it as records."""
    import logging

    from rich.console import Console

    model = app.model
    ready = f"model {model.name} at {model.sample_rate} Hz, ready in {took_s:.1f} s"
    urls = [url for url in (app.url, app.grpc_url) if url]
    if as_log:
        for line in (*(f"listening on {url}" for url in urls), ready):
            logging.getLogger(__name__).info(line)
        return
    say = partial(Console(stderr=True).print, highlight=False, soft_wrap=True)
    for url in urls:
        say(f"listening on [bold]{url}[/bold]")
    say(f"[dim]{ready}; try: streamer client -i FILE "
        f"-a {app.url.replace('http', 'ws', 1)}/api/v2/segmented[/dim]")  # fmt: skip
