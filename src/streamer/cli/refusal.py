"""Last message of a command that cannot go on: the author's traceback, if there is one, and one line."""

from __future__ import annotations

import sys

import typer

from streamer.errors import StreamerError


def print_error(error: StreamerError) -> None:
    """Print an error to stderr: the traceback of the author's code first, so that the reason is the last line."""
    detail = getattr(error, "detail", "")
    if detail:
        show_traceback(detail)
    typer.echo(f"error: {error.message}", err=True)


def show_traceback(text: str) -> None:
    """Print a traceback to stderr; coloured on a terminal."""
    typer.secho(text.rstrip(), err=True, fg="red" if sys.stderr.isatty() else None)
