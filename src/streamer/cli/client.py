"""`streamer client`: streams a recording to a server, and prints the results live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streamer.cli.sources import Source
    from streamer.cli.streaming import Failure

ADDRESS = "ws://localhost:8080/api/v1/segmented"

Input = Annotated[
    str,
    typer.Option(
        "--input",
        "-i",
        help="Audio to stream: a file (WAV, FLAC, MP3, M4A, Ogg, WebM, ...), a URL, or `-` for stdin.",
        metavar="FILE",
    ),
]


def client(
    input_: Input = "",
    address: Annotated[
        str,
        typer.Option(
            "--address",
            "-a",
            help="Endpoint. Its path selects protocol version and mode. Or grpc://HOST:PORT.",
            metavar="URL",
        ),
    ] = ADDRESS,
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
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON event per line on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Stream a recording to a server and print the results.

    Exit codes: 1 if the server is unreachable or the stream fails, 2 for an unreadable file or an invalid address.
    """
    import asyncio
    import os

    from streamer.cli.streaming import stream_recording
    from streamer.cli.views import view_for
    from streamer.telemetry.client_trace import client_trace

    source, address = _source(input_, address, mic=mic)
    view = view_for(source.seconds, source.format.channels or 1, as_json=json)
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
                )
            )
    except* BrokenPipeError:
        failure = _reader_left()
    if failure is not None:
        typer.echo(f"error: {failure.message}", err=True)
        raise typer.Exit(failure.exit_code)


def _source(name: str, address: str, *, mic: bool) -> tuple[Source, str]:
    """Return the audio, and the address that can take it."""
    from streamer.cli.sources import NoSource, microphone, needs_v2, source_of
    from streamer.errors import StreamerError

    try:
        if bool(name) == mic:
            raise NoSource("expected either --input or --mic, got " + ("both" if mic else "neither"))
        if mic:
            return microphone(), address
        if address == ADDRESS and needs_v2(name):
            address = ADDRESS.replace("/v1/", "/v2/")
        return source_of(name, as_it_is="/api/v1/" not in address), address
    except StreamerError as error:
        message = error.message if not name or name in error.message else f"{name}: {error.message}"
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def _reader_left() -> Failure:
    """Report once that the output's reader has exited (`| head`), not again at the interpreter's last flush."""
    import os
    import sys

    from streamer.cli.streaming import Failure

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Failure("the output was closed by its reader")
