"""The command line: one module per command. Heavy imports are inside the commands, so that --help is fast."""

from __future__ import annotations

import typer

import streamer
from streamer.build import compiled
from streamer.cli.bench import bench as _bench
from streamer.cli.check import check as _check
from streamer.cli.client import client as _client
from streamer.cli.demo import demo as _demo
from streamer.cli.evaluate import evaluate as _evaluate
from streamer.cli.key import key as _key
from streamer.cli.models import models as _models
from streamer.cli.serve import serve as _serve
from streamer.cli.token import token as _token
from streamer.cli.top import top as _top
from streamer.cli.transcribe import transcribe as _transcribe
from streamer.cli.vad import vad as _vad

app = typer.Typer(
    name="streamer",
    help="Your function in, a production streaming audio API out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"streamer {streamer.__version__}{' (compiled)' if compiled() else ''}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Your function in, a production streaming audio API out."""


# By alias and by name: a function with its module's name would hide it from `import streamer.cli.serve`.
app.command("serve")(_serve)
app.command("check")(_check)
app.command("bench")(_bench)
app.command("client")(_client)
app.command("demo")(_demo)
app.command("transcribe")(_transcribe)
app.command("evaluate")(_evaluate)
app.command("vad")(_vad)
app.command("top")(_top)
app.add_typer(_models, name="models")
app.add_typer(_key, name="key")
app.add_typer(_token, name="token")


def main() -> None:
    """Entry point of the `streamer` command."""
    app()
