"""The command line: one module per command; heavy imports stay inside the commands so that --help is quick."""

from __future__ import annotations

import typer

import streamer
from streamer.cli.serve import serve

app = typer.Typer(
    name="streamer",
    help="Your function in, a production streaming audio API out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamer {streamer.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Your function in, a production streaming audio API out."""


app.command()(serve)


def main() -> None:
    """Entry point of the `streamer` command."""
    app()
