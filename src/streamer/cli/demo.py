"""`streamer demo`: a real server and recording, with live results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from streamer.cli.send_recording import Failure
    from streamer.cli.sources import Recording

MODEL = "moonshine"
PATH = "/api/v2/segmented"

_NEXT = """
Next steps:
  streamer serve moonshine                         serve it, and speak into the page at http://localhost:8080/
  streamer client -i FILE.wav --real-time          speak to it (WAV, FLAC, ...)
  streamer vad FILE.wav --plot speech.png          see where speech was found
  streamer serve my_module:my_function             your own model: a function of samples"""


def demo() -> None:
    """Start a server, stream a recording to it in real time, print the results and stop the server."""
    import asyncio

    from streamer.cli.server_subprocess import ServerFailed

    try:
        failure = asyncio.run(_demo(_sample()))
    except ServerFailed as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    if failure is not None:
        typer.echo(f"error: {failure.message}", err=True)
        raise typer.Exit(failure.exit_code)
    typer.echo(_NEXT)


def _sample() -> Recording:
    from importlib.resources import as_file

    from streamer.audio.files import read_audio
    from streamer.cli.sources import Recording
    from streamer.client.sources import wire_audio
    from streamer.samples import sample

    with as_file(sample()) as path:
        return Recording(*wire_audio(read_audio(path)))


async def _demo(recording: Recording) -> Failure | None:
    from streamer.cli.send_recording import stream_recording
    from streamer.cli.server_subprocess import run_server
    from streamer.cli.views import view_for

    typer.echo(f"Starting a server with {MODEL} ...")
    async with run_server(MODEL) as child:
        typer.echo(f"It listens on {child.address}. Streaming {recording.seconds:.1f} s of speech in real time:\n")
        return await stream_recording(
            recording,
            child.address.replace("http", "ws", 1) + PATH,
            view_for(recording.seconds, recording.format.channels),
            chunk_bytes=640,
            real_time=True,
            interim_results=True,
            interim_interval_ms=300,
        )
