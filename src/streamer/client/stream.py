"""A client's stream: send bytes and receive typed events at the same time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.dialects import V1ClientCodec, V2ClientCodec
from streamer.client.errors import ConnectionClosed
from streamer.client.events import AudioChunk, Error, Event, Finished, Started
from streamer.client.transport import LOST, ClientCodec, ClientTransport, Closed, Request, is_normal_end
from streamer.client.unread import EventQueue
from streamer.errors import BadRequest, install_command
from streamer.media.formats import Container, MediaFormat, provisional
from streamer.session.events import Mode
from streamer.session.messages import Audio, AudioOutFormat, Clear, Flush, KeepAlive, Start, Stop, VadOverrides

MAX_FRAME_BYTES = 32 * 1024
"""Bytes of audio above which a message is split, which changes no result."""
MAX_UNREAD_EVENTS = 4096
_POLL_INTERVAL_S = 0.2
"""Interval in seconds of checking for the end of a connection that is not being read."""

WordT = TypeVar("WordT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Received:
    """A received frame and its event (None for an event that this version does not know)."""

    frame: Any
    event: Event | None


class Stream:
    """A connection with a stream; created by `connect`.

    Events are read in the background, so a program that sends first and reads later is not a slow consumer. At
    MAX_UNREAD_EVENTS, reading pauses until half of them are consumed. One task may iterate while others send.
    """

    def __init__(self, link: ClientTransport[Any], dialect: ClientCodec[Any]) -> None:
        self._transport = link
        self._codec = dialect
        self._unread: EventQueue[Received] = EventQueue(MAX_UNREAD_EVENTS)
        self._closed: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._finished = False
        self._stopped = False
        """The close was requested."""
        self._max_frame = MAX_FRAME_BYTES
        self._explanation = ""

    @classmethod
    @asynccontextmanager
    async def on_transport(cls, link: ClientTransport[Any], dialect: ClientCodec[Any]) -> AsyncIterator[Self]:
        """Create a stream on an open link; leaving the block closes the link."""
        stream = cls(link, dialect)
        reading = asyncio.create_task(stream._read())
        try:
            yield stream
        finally:
            closed = Closed(LOST)
            try:
                closed = await link.close()
            finally:
                reading.cancel()
                await asyncio.wait([reading])
                stream._finish_reading(closed)

    async def start(self, start: Start) -> None:
        """Begin another stream on this connection: after `stop(keep_open=True)`, or in place of the running one."""
        self._stopped = False
        await self._send(start)

    async def send(self, data: bytes) -> None:
        """Send audio in the agreed format, cut anywhere. Waits while the server is slow.

        Raises ConnectionClosed if the connection has ended.
        """
        for at in range(0, len(data), self._max_frame):
            await self._send(Audio(data[at : at + self._max_frame]))
        await asyncio.sleep(0)  # a socket that is never full would never let the events be read

    async def flush(self, id: str | None = None) -> None:
        """End the running utterance here; its final follows, then `Flushed` with the same id. Not on v1."""
        await self._send(Flush(id))

    async def stop(self, *, keep_open: bool = False) -> None:
        """Finish all audio sent so far. Does not wait: iterate to receive the remaining events.

        The server closes after the last event, or keeps the connection for another `start` with `keep_open`.
        """
        self._stopped = not keep_open
        await self._send(Stop(keep_open))

    async def clear(self) -> None:
        """Drop the audio out that the server has not sent yet; `Cleared` says how much it was. Not on v1."""
        await self._send(Clear())

    async def audio(self, on_event: Callable[[Event], object] | None = None) -> AsyncIterator[AudioChunk]:
        """Iterate over the audio out, in place of iterating over all events. `on_event` gets the other events.

        Ends as the iteration over events does, and raises its errors.
        """
        async for event in self:
            if isinstance(event, AudioChunk):
                yield event
            elif on_event is not None:
                on_event(event)

    async def keepalive(self) -> None:
        """Reset the server's idle time-out while no audio is sent. Not on v1."""
        await self._send(KeepAlive())

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Return the next event. Stops after `Finished` (of each stream) or a normal close.

        A normal close is 1000, or one without a code after the stop. Any other close raises ConnectionClosed, so that
        incomplete results do not look complete.
        """
        while not self._finished:
            received = await self.receive()
            if received is None:
                raise StopAsyncIteration
            if received.event is not None:
                return received.event
        self._finished = False
        raise StopAsyncIteration

    async def receive(self) -> Received | None:
        """Return the next event with its frame; None after a normal close. Raises the errors of the iteration."""
        received = await self._unread.get()
        if received is not None:
            self._finished = isinstance(received.event, Finished)
        return received

    async def wait_closed(self) -> Closed:
        """Wait for the end of the connection and return it. Unread events stay readable.

        While reading is paused, only the end of the block or of the server's side ends the connection. Over gRPC, and
        on Windows, the server's end is known only after all events before it were read.
        """
        return await asyncio.shield(self._closed)

    async def _send(self, request: Request) -> None:
        frame = self._codec.encode(request)
        if self._closed.done():
            raise self._ended(self._closed.result())
        try:
            await self._transport.send_frame(frame)
        except ConnectionError as error:
            raise self._ended(await self._soon_closed()) from error

    async def _soon_closed(self) -> Closed:
        """Return the server's reason for its close, if it is about to arrive."""
        try:
            async with asyncio.timeout(1.0):
                return await self.wait_closed()
        except TimeoutError:
            return Closed(LOST, "connection lost")

    def _ended(self, closed: Closed) -> ConnectionClosed:
        return ConnectionClosed(closed.code, closed.reason, self._explanation)

    async def _read(self) -> None:
        """Read frames until the connection ends."""
        try:
            self._finish_reading(await self._read_frames())
        except Exception as unreadable:  # noqa: BLE001 (raised again in the task that iterates)
            self._finish_reading(await self._transport.close(), unreadable)

    async def _read_frames(self) -> Closed:
        while not isinstance(frame := await self._transport.receive_frame(), Closed):
            event = self._codec.decode(frame)
            self._on_event(event)
            self._unread.put(Received(frame, event))
            while self._unread.is_full and not self._transport.has_peer_disconnected():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_INTERVAL_S):
                        await self._unread.wait_for_room()
        return frame

    def _finish_reading(self, closed: Closed, error: Exception | None = None) -> None:
        """Store the end of the connection, unless it is known. `error`: the reason, if the close names no reason."""
        if self._closed.done():
            return
        self._closed.set_result(closed)
        is_normal = is_normal_end(closed.code, stopped=self._stopped)
        self._unread.end(error or (None if is_normal else self._ended(closed)))

    def _on_event(self, event: Event | None) -> None:
        match event:
            case Started(limits=limits):
                announced = limits.get("max_audio_message_bytes", MAX_FRAME_BYTES)
                self._max_frame = max(1, min(MAX_FRAME_BYTES, int(announced)))
            case Error(fatal=True, message=message):
                self._explanation = message


@asynccontextmanager
async def connect(
    url: str,
    *,
    format: AudioFormat | MediaFormat | None = None,
    encoding: str = Encoding.PCM_S16LE,
    sample_rate: int = 16_000,
    channels: int | None = None,
    mode: Mode | str | None = None,
    interim_results: bool = False,
    interim_interval_ms: int | None = None,
    chunk_ms: int | None = None,
    vad: VadOverrides | None = None,
    options: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    token: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
    audio_out: AudioOutFormat | bool = False,
) -> AsyncIterator[Stream]:
    """Connect to a server and start a stream; leaving the block closes the connection.

    `url` selects protocol version and mode: `ws://HOST:PORT/api/v2/segmented`, `.../api/v1/simple` and so on; or
    `grpc://HOST:PORT` (`grpcs`: over TLS) with `mode`: segmented, unless it is "simple".

    `format` is the format of the audio; or give `encoding`, `sample_rate` (Hz) and `channels` instead. `vad`,
    `options`, `metadata`, `chunk_ms`, `interim_interval_ms` and `audio_out` need v2.

    `audio_out`: the format in which the model's audio is sent; True for the encoding and the rate of the input, or
    `pcm_s16le` at 16 kHz for compressed audio.

    Raises BadRequest or InvalidFormat for an invalid request, ConnectFailed if the server cannot be reached, and
    HandshakeRefused if it refuses the connection.
    """
    form = format or _format(encoding, sample_rate, channels)
    media = form.check() if isinstance(form, MediaFormat) else None
    start = Start(
        format=provisional() if isinstance(form, MediaFormat) else form,
        media=media,
        interim_results=interim_results,
        interim_interval_ms=interim_interval_ms,
        chunk_ms=chunk_ms,
        vad=vad or VadOverrides(),
        traceparent=traceparent,
        tracestate=tracestate,
        metadata=dict(metadata or {}),
        options=msgspec.json.encode(dict(options or {})),
        mode=None if mode is None else _one_of(Mode, "mode", mode),
        audio_out=_audio_out(audio_out, form),
    )
    async with open_stream(url, start, token=token) as stream:
        yield stream


@asynccontextmanager
async def open_stream(url: str, start: Start, *, token: str | None = None) -> AsyncIterator[Stream]:
    """Connect with a given start message; see `connect`."""
    if is_grpc(url):
        async with _call(url, start, token) as stream:
            yield stream
        return
    dialect = codec_of(url)
    dialect.encode(start)  # an unsupported request fails before the connection is opened
    from streamer.client.websocket_transport import open_websocket  # noqa: PLC0415 (aiohttp is slow to import)

    async with (
        open_websocket(url, dialect=dialect.name, token=token) as link,
        Stream.on_transport(link, dialect) as stream,
    ):
        await stream.start(start)
        yield stream


@asynccontextmanager
async def _call(url: str, start: Start, token: str | None) -> AsyncIterator[Stream]:
    try:
        from streamer.client.grpc_dialect import GrpcClientCodec  # noqa: PLC0415 (an extra)
        from streamer.client.grpc_transport import open_call  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadRequest(f"grpc:// needs the extra: {install_command('grpc')} ({error})") from None
    async with open_call(url, token=token) as link, Stream.on_transport(link, GrpcClientCodec()) as stream:
        await stream.start(start)
        yield stream


def is_grpc(url: str) -> bool:
    """Return whether a URL is one of gRPC. Raises BadRequest for a malformed one."""
    parts = urlsplit(url)
    if parts.scheme not in {"grpc", "grpcs"}:
        return False
    if not parts.netloc or not re.fullmatch(r"(/models/[^/]+)?/?", parts.path):
        raise BadRequest(field="url", expected="grpc://HOST:PORT or grpc://HOST:PORT/models/NAME", got=url)
    return True


def codec_of(url: str) -> ClientCodec[str | bytes]:
    """Return the codec for a URL's path. Raises BadRequest for a path without one."""
    parts = urlsplit(url)
    match = re.search(r"/v([12])/(?:models/[^/]+/)?(simple|segmented)/?$", parts.path)
    if parts.scheme not in {"ws", "wss", "http", "https"} or not parts.netloc or match is None:
        raise BadRequest(field="url", expected="ws://HOST:PORT/api/v1|v2/simple|segmented or grpc://HOST:PORT", got=url)
    return V1ClientCodec() if match[1] == "1" else V2ClientCodec()


def _format(encoding: str, sample_rate: int, channels: int | None) -> AudioFormat | MediaFormat:
    if encoding in list(Container):
        return MediaFormat(Container(encoding), channels)
    return AudioFormat(_one_of(Encoding, "encoding", encoding), sample_rate, 1 if channels is None else channels)


def _audio_out(request: AudioOutFormat | bool, form: AudioFormat | MediaFormat) -> AudioOutFormat | None:
    if not isinstance(request, bool):
        return request
    same = form if isinstance(form, AudioFormat) else provisional()
    return AudioOutFormat(same.encoding, same.sample_rate) if request else None


def _one_of(words: type[WordT], field: str, word: str) -> WordT:
    try:
        return words(word)
    except ValueError:
        raise BadRequest(field=field, expected=f"one of {', '.join(words)}", got=word) from None
