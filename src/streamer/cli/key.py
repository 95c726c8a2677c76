"""`streamer key`: static keys."""

from __future__ import annotations

from typing import Annotated

import typer

key = typer.Typer(no_args_is_help=True, help="Create static keys.")


@key.callback()
def _keys() -> None:
    """Create static keys."""


@key.command()
def new(
    subject: Annotated[
        str, typer.Argument(help="Subject: the name of the key's owner in logs and limits.")
    ] = "default",
) -> None:
    """Create a key. Give the key to the client and its hash to the server, as access.keys."""
    from streamer.access import new_key
    from streamer.errors import ConfigError

    try:
        secret, entry = new_key(subject)
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"key:  {secret}")
    typer.echo(f"hash: {entry}")
    typer.echo(
        "The key is not shown again. Nothing changes until the server has the hash:\n"
        f"  STREAMER_ACCESS__KEYS={entry} streamer serve MODEL\n"
        f"  STREAMER_TOKEN={secret} streamer client -i FILE",
        err=True,
    )
