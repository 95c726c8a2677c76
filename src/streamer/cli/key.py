"""`streamer key`: static keys."""

from __future__ import annotations

from typing import Annotated

import typer

key = typer.Typer(no_args_is_help=True, help="Static keys.")


@key.callback()
def _keys() -> None:
    """Static keys: `key new` makes one."""


@key.command()
def new(
    subject: Annotated[str, typer.Argument(help="Whose it is: a name that logs and limits know it by.")],
) -> None:
    """Make a key. The key goes to whoever connects; the hash to the server, as access.keys."""
    from streamer.access import new_key
    from streamer.errors import ConfigError

    try:
        secret, kept = new_key(subject)
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"key:  {secret}")
    typer.echo(f"hash: {kept}")
    typer.echo(
        "The key is shown this once. The server gets the hash: STREAMER_ACCESS__KEYS, or access.keys in its file.",
        err=True,
    )
