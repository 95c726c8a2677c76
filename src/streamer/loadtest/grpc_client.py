"""Load over gRPC: messages are serialized once for all streams. The cost of grpc.aio remains per message."""

from __future__ import annotations

import asyncio
from time import monotonic
from urllib.parse import urlsplit

import grpc.aio

from streamer.client.grpc_dialect import GrpcClientCodec
from streamer.client.grpc_transport import METHOD, metadata_of
from streamer.client.transport import LOST, NORMAL
from streamer.loadtest.load_client import CONNECT_TIMEOUT_S, MAX_EVENT_BYTES, ConnectionRefused, LoadListener
from streamer.session.messages import Audio

StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_EVENT_BYTES),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # one connection per stream, as real users have
)


class GrpcLoadConnection:
    """One call. Messages that the server does not take in time wait here, which shows as latency."""

    def __init__(self, channel: grpc.aio.Channel, call: StreamCall, listener: LoadListener) -> None:
        self._channel = channel
        self._call = call
        self._listener = listener
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._running = asyncio.create_task(self._run())

    def send(self, frame: bytes) -> None:
        self._unsent.put_nowait(frame)

    def send_control(self, message: str | bytes) -> None:
        assert isinstance(message, bytes)
        self._unsent.put_nowait(message)

    def abort(self) -> None:
        self._call.cancel()

    async def _run(self) -> None:
        """Run until the call ends, and report its end to the listener."""
        writing = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        status = await self._call.code()
        normal = status is grpc.StatusCode.OK
        reason = "" if normal else f"{status.name}: {await self._call.details()}"
        self._listener.on_close(NORMAL if normal else LOST, reason, monotonic())
        await self._channel.close()

    async def _read(self) -> None:
        try:
            while isinstance(frame := await self._call.read(), bytes):
                self._listener.on_frame(frame, monotonic())
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            if not self._call.done():
                raise

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(await self._unsent.get())
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call has ended, which the reader reports


class GrpcLoadClient:
    """Calls `grpc://HOST:PORT` (`grpcs`: over TLS)."""

    streams_per_process = 60

    def __init__(self, url: str, token: str | None) -> None:
        self._url = urlsplit(url)
        self._metadata = tuple(metadata_of(url, token))

    def new_codec(self) -> GrpcClientCodec:
        return GrpcClientCodec()

    def frames(self, chunks: list[bytes]) -> list[bytes]:
        dialect = GrpcClientCodec()
        return [dialect.encode(Audio(chunk)) for chunk in chunks]

    async def connect(self, listener: LoadListener) -> GrpcLoadConnection:
        """Return an open call. Raises Refused."""
        channel = self._channel()
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
        call = method(metadata=self._metadata)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                accepted = "streamer-protocol" in dict(await call.initial_metadata())
                why = "" if accepted else f"{(await call.code()).name}: {await call.details()}"
        except TimeoutError:
            call.cancel()
            accepted, why = False, f"no answer within {CONNECT_TIMEOUT_S:g} s"
        if not accepted:
            await channel.close()
            raise ConnectionRefused(why)
        return GrpcLoadConnection(channel, call, listener)

    def _channel(self) -> grpc.aio.Channel:
        if self._url.scheme == "grpcs":
            return grpc.aio.secure_channel(self._url.netloc, grpc.ssl_channel_credentials(), _OPTIONS)
        return grpc.aio.insecure_channel(self._url.netloc, _OPTIONS)
