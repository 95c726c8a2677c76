"""`streamer token`: short-lived signed tokens, and their secrets."""

from __future__ import annotations

from typing import Annotated

import typer

token = typer.Typer(no_args_is_help=True, help="Create short-lived signed tokens.")


@token.command()
def secret() -> None:
    """Print a new signing secret: a line for the file of access.token_secrets_file."""
    from streamer.access import new_secret

    typer.echo(new_secret())


@token.command()
def mint(
    subject: Annotated[str, typer.Argument(help="Subject: the name of the token's owner in logs and limits.")],
    secrets_file: Annotated[
        str, typer.Option(envvar="STREAMER_ACCESS__TOKEN_SECRETS_FILE", help="File of secrets. The first one signs.")
    ],
    ttl: Annotated[int, typer.Option(min=1, max=30 * 86_400, help="Seconds until the token expires.")] = 300,
    once: Annotated[bool, typer.Option("--once", help="Make a single-use token (which may be sent in a URL).")] = False,
    max_sessions: Annotated[
        int | None, typer.Option(min=1, help="Maximum concurrent sessions of this subject.")
    ] = None,
    max_stream_s: Annotated[int | None, typer.Option(min=1, help="Maximum seconds of audio per stream.")] = None,
) -> None:
    """Print a token."""
    import secrets
    import time

    import msgspec

    from streamer.access.factory import read_secrets
    from streamer.access.tokens import Claims, mint
    from streamer.errors import ConfigError

    now = int(time.time())
    claims = Claims(subject, secrets.token_urlsafe(16), now, now + ttl, once, max_sessions, max_stream_s)
    try:
        claims = msgspec.convert(msgspec.to_builtins(claims), Claims)  # the limits of a reader apply here as well
        typer.echo(mint(claims, read_secrets(secrets_file)[0]))
    except msgspec.ValidationError as error:
        text = str(error).partition(" - at")[0]
        typer.echo(f"error: SUBJECT: {text[:1].lower()}{text[1:]}", err=True)
        raise typer.Exit(2) from None
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
