"""Streams one recording and shows its results, for `client` and `demo`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from streamer.cli.formatting import Times, View
from streamer.cli.sinks import AudioSink, Sinks
from streamer.cli.sources import Source
from streamer.client.errors import ConnectFailed, ConnectionClosed
from streamer.client.events import Ack, Error, Started
from streamer.client.stream import Stream, connect
from streamer.errors import BadRequest, ErrorCode, StreamerError
from streamer.session.events import Mode


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a stream failed, in one line."""

    message: str
    exit_code: int = 1


async def stream_recording(
    source: Source,
    address: str,
    view: View,
    *,
    token: str | None = None,
    chunk_bytes: int = 256,
    real_time: bool = False,
    interim_results: bool = False,
    interim_interval_ms: int | None = None,
    simple: bool = False,
    traceparent: str | None = None,
    sinks: Sequence[AudioSink] = (),
) -> Failure | None:
    """Stream a recording and show it in `view`; return None on success. `sinks`: for the audio out, if any."""
    mode = Mode.SIMPLE if simple else None
    audio_out = Sinks(sinks, source.format)
    try:
        talk = connect(
            address,
            format=source.format,
            mode=mode,
            interim_results=interim_results,
            interim_interval_ms=interim_interval_ms,
            token=token,
            traceparent=traceparent,
            audio_out=audio_out.audio_out_format,
        )
        async with talk as stream:
            with view:
                return await _run_stream(stream, source, view, audio_out, chunk_bytes, traceparent, real_time=real_time)
    except BadRequest as error:
        return Failure(error.message, exit_code=2)
    except ConnectFailed as error:
        return Failure(error.message + _remedy(error, token))
    finally:
        audio_out.close()


def _remedy(error: ConnectFailed, token: str | None) -> str:
    if error.code is not ErrorCode.UNAUTHENTICATED:
        return ""
    if token is None:
        return "; give a key or token with --token, or in STREAMER_TOKEN"
    return "; the server does not know the key or token of --token or STREAMER_TOKEN"


async def _run_stream(
    stream: Stream, source: Source, view: View, audio_out: Sinks, chunk_bytes: int, traceparent: str | None, *,
    real_time: bool,
) -> Failure | None:  # fmt: skip
    started_at = monotonic()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(_send(stream, source, view, chunk_bytes, real_time=real_time))
        failure, first, trace = await _receive_loop(stream, view, audio_out)
        sending.cancel()
    trace = trace or traceparent
    view.on_end(
        Times(
            None if first is None else first - started_at,
            monotonic() - started_at,
            trace.split("-")[1] if trace else None,
        )
    )
    return failure


async def _send(stream: Stream, source: Source, view: View, chunk_bytes: int, *, real_time: bool) -> None:
    with suppress(ConnectionClosed):  # the receiver reports the reason
        async for piece, seconds in source.pieces(chunk_bytes, real_time=real_time):
            await stream.send(piece)
            view.on_sent(seconds)
        await stream.stop()


async def _receive_loop(
    stream: Stream, view: View, audio_out: Sinks
) -> tuple[Failure | None, float | None, str | None]:
    """Receive everything up to the close.

    Return the failure, the time of the first event about the audio, and the traceparent of the server.
    """
    first: float | None = None
    trace: str | None = None
    fatal: Failure | None = None
    try:
        while (received := await stream.receive()) is not None:
            view.on_event(received)
            await audio_out.take(received.event)
            if isinstance(received.event, Started):
                trace = received.event.traceparent
            elif first is None and not isinstance(received.event, Ack):
                first = monotonic()
            if isinstance(received.event, Error) and received.event.fatal:
                fatal = Failure(f"{received.event.code}: {received.event.message}")
    except BadRequest as error:
        return Failure(error.message, exit_code=2), first, trace
    except StreamerError as error:
        return fatal or Failure(error.message), first, trace
    return fatal, first, trace
