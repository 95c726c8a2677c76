"""`streamer client`: streams a recording to a server, and prints the results live."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.transcribe import OutputFormat

if TYPE_CHECKING:
    from streamer.cli.formatting import View
    from streamer.cli.send_recording import Failure
    from streamer.cli.sinks import AudioSink
    from streamer.cli.sources import Source

ADDRESS = "ws://localhost:8080/api/v2/segmented"
AUDIO_ADDRESS = "ws://localhost:8080/api/v2/simple"
"""Default if audio out is requested."""

Input = Annotated[
    str,
    typer.Option(
        "--input",
        "-i",
        help="Audio to stream: a file (WAV, FLAC, MP3, M4A, Ogg, WebM, ...), a URL, or `-` for stdin.",
        metavar="FILE",
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        help="Endpoint. Its path selects protocol version and mode. Or grpc://HOST:PORT.",
        metavar="URL",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Save the transcript (.txt, .srt, .vtt, .json, .tsv), or else the model's audio as WAV.",
        metavar="FILE",
        dir_okay=False,
    ),
]
Format = Annotated[
    OutputFormat | None, typer.Option("--format", "-f", help="Print the transcript at the end, in place of the events.")
]
Play = Annotated[bool, typer.Option("--play", help="Play the model's audio (extra: streamer-audio[play]).")]


def client(
    input_: Input = "",
    address: Address = ADDRESS,
    chunk_size: Annotated[int, typer.Option(help="Bytes of audio per message.", min=1, metavar="BYTES")] = 256,
    mic: Annotated[bool, typer.Option("--mic", help="Stream this machine's microphone.")] = False,
    real_time: Annotated[bool, typer.Option("--real-time", help="Send at the speed of the recording.")] = False,
    simple: Annotated[
        bool,
        typer.Option(
            "--simple", help="Use simple mode (all audio, no VAD) over gRPC. Over WebSocket the path selects it."
        ),
    ] = False,
    interim_results: Annotated[bool, typer.Option("--interim-results", help="Request interim results.")] = False,
    token: Annotated[
        str | None, typer.Option(help="Key or token, if the server requires one.", envvar="STREAMER_TOKEN")
    ] = None,
    output: Output = None,
    format_: Format = None,
    play: Play = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON event per line on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Stream a recording to a server and print the results.

    Exit codes: 1 if the server is unreachable or the stream fails, 2 for an unreadable file or an invalid address.
    """
    import asyncio
    import os

    from streamer.cli.send_recording import stream_recording
    from streamer.telemetry.client_trace import client_trace

    transcript = output if output is not None and output.suffix[1:].lower() in list(OutputFormat) else None
    audio = None if transcript else output
    if (audio or play) and address == ADDRESS:
        address = AUDIO_ADDRESS
    sinks = _sinks(audio, play=play)
    source = _source(input_, address, mic=mic)
    view = _view(source, transcript, format_, as_json=json)
    try:
        with client_trace(os.environ, address) as traceparent:
            failure = asyncio.run(
                stream_recording(
                    source,
                    address,
                    view,
                    token=token,
                    chunk_bytes=chunk_size,
                    real_time=real_time,
                    interim_results=interim_results,
                    simple=simple,
                    traceparent=traceparent,
                    sinks=sinks,
                )
            )
    except* OSError as group:
        failure = _output_lost(group)
    if failure is not None:
        typer.echo(f"error: {failure.message}", err=True)
        raise typer.Exit(failure.exit_code)


def _view(source: Source, transcript: Path | None, format_: OutputFormat | None, *, as_json: bool) -> View:
    """Return what shows the stream. `transcript`: file for the transcript; `format_`: of the one on stdout."""
    from streamer.cli.transcript_view import QuietView, TranscriptView
    from streamer.cli.views import view_for
    from streamer.errors import BadRequest

    channels = source.format.channels or 1
    try:
        if format_ is None:
            view: View = view_for(source.seconds, channels, as_json=as_json)
        elif as_json:
            raise BadRequest("expected either --json or --format, got both")
        else:
            view = TranscriptView(QuietView(channels), format_, None)
        if transcript is not None:
            view = TranscriptView(view, OutputFormat(transcript.suffix[1:].lower()), transcript)
    except BadRequest as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from None
    return view


def _sinks(output: Path | None, *, play: bool) -> list[AudioSink]:
    """Return where audio out goes."""
    from streamer.cli.sinks import LoudspeakerSink, WavSink
    from streamer.errors import BadRequest

    sinks: list[AudioSink] = [] if output is None else [WavSink(output)]
    if play:
        try:
            sinks.append(LoudspeakerSink())
        except BadRequest as error:
            typer.echo(f"error: {error.message}", err=True)
            raise typer.Exit(2) from None
    return sinks


def _source(name: str, address: str, *, mic: bool) -> Source:
    """Return the audio, compressed as it is if the server at `address` takes that."""
    from streamer.cli.sources import NoSource, microphone, source_of
    from streamer.errors import StreamerError

    try:
        if bool(name) == mic:
            raise NoSource("expected either --input or --mic, got " + ("both" if mic else "neither"))
        if mic:
            return microphone()
        return source_of(name, as_it_is="/api/v1/" not in address)
    except StreamerError as error:
        message = error.message if not name or name in error.message else f"{name}: {error.message}"
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def _output_lost(group: BaseExceptionGroup[OSError]) -> Failure:
    """Report once that stdout cannot be written, not again at the interpreter's last flush.

    The errors of a connection have become results before; only the output is left.
    """
    import os
    import sys

    from streamer.cli.send_recording import Failure

    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return Failure("the output was closed by its reader")
    return Failure(f"the output cannot be written: {getattr(error, 'strerror', None) or error}")
