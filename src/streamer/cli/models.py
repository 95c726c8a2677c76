"""`streamer models`: the list of weights with a name, and `get`, which fetches weights in advance."""

from __future__ import annotations

from typing import Annotated

import typer

models = typer.Typer(help="List the models with a name; get their weights ahead of time.", invoke_without_command=True)


@models.callback()
def list_models(context: typer.Context) -> None:
    """List the models that `streamer serve NAME` knows, with their weights."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Column, Table

    from streamer.models.catalogue import CATALOGUE
    from streamer.models.weights import place

    name = Column("name", no_wrap=True, min_width=max(map(len, CATALOGUE)))
    table = Table(name, "MB", "languages", "streaming", "licence", "on this machine", box=None)
    for weights in CATALOGUE.values():
        streaming = "yes" if weights.streaming else "no"
        table.add_row(
            weights.name, str(weights.megabytes), weights.languages, streaming, weights.licence, place(weights)
        )
    console = Console()
    console.print(table)
    console.print("Others: MODEL:DIRECTORY, or MODEL:owner/name on the hub.", style="dim")


@models.command("get")
def get(
    name: Annotated[str, typer.Argument(help="model:variant, such as moonshine:base-en, or model:owner/name.")],
    revision: Annotated[str | None, typer.Option(help="Commit, tag or branch on the hub.", metavar="REVISION")] = None,
) -> None:
    """Fetch weights into the cache, for an image's build or for a machine without a network."""
    import logging

    from streamer.errors import ConfigError, ModelLoadError
    from streamer.models.weights import get_weights

    logging.basicConfig(level="INFO", format="%(message)s")
    try:
        typer.echo(get_weights(name, revision))
    except (ConfigError, ModelLoadError) as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1) from None
