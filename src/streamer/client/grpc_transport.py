"""A call to a server, with grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import grpc.aio

from streamer.client.errors import ConnectFailed, HandshakeRefused, error_code_of
from streamer.client.transport import LOST, NORMAL, Closed
from streamer.errors import ErrorCode

METHOD = "/streamer.v2.Streamer/Stream"
MODEL_KEY = "streamer-model"
"""Metadata that names one of several models."""
_CONNECT_TIMEOUT_S = 10.0
_MAX_EVENT_BYTES = 16 * 1024 * 1024

StreamCall = grpc.aio.StreamStreamCall[bytes, bytes]


class GrpcClientTransport:
    """Sends and receives frames, which are serialized messages, over one call."""

    def __init__(self, call: StreamCall) -> None:
        self._call = call
        self._is_closing = False

    async def send_frame(self, frame: bytes) -> None:
        try:
            await self._call.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise ConnectionResetError("the call has ended") from error

    async def receive_frame(self) -> bytes | Closed:
        try:
            message: object = await self._call.read()
        except grpc.aio.AioRpcError:
            return await self._ended()
        except asyncio.CancelledError:
            if not self._call.cancelled() or _is_cancelled():
                raise
            return await self._ended()
        return message if isinstance(message, bytes) else await self._ended()

    def has_peer_disconnected(self) -> bool:
        """Return False: gRPC reports the end of a call only after its last message was read."""
        return self._call.done()

    async def close(self) -> Closed:
        """Cancel the call, unless it has ended. A caller that wants the remaining messages has waited for them."""
        if not self._call.done():
            self._is_closing = True
            self._call.cancel()
        return await self._ended()

    async def _ended(self) -> Closed:
        """Return the end of the call.

        OK is 1000, as for WebSocket; another status is its number, with the error's code.
        """
        status = await self._call.code()
        if self._is_closing or status is grpc.StatusCode.OK:
            return Closed(NORMAL)
        trailer = (await _trailers(self._call)).get("streamer-code")
        if trailer is None:
            return Closed(LOST, f"{status.name}: {await self._call.details()}")
        return Closed(status.value[0], trailer)


@asynccontextmanager
async def open_call(
    url: str, *, token: str | None, deadline_s: float | None = None
) -> AsyncIterator[GrpcClientTransport]:
    """Call the server of `grpc://HOST:PORT` (`grpcs`: over TLS). Raises HandshakeRefused, ConnectFailed.

    `grpc://HOST:PORT/models/NAME` names one of several models. `deadline_s`: deadline of the whole call.
    """
    async with _channel(url) as channel:
        method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(METHOD)
        call = method(metadata=tuple(metadata_of(url, token)), timeout=deadline_s)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                accepted = "streamer-protocol" in dict(await call.initial_metadata())
        except TimeoutError:
            call.cancel()
            raise ConnectFailed(f"cannot reach {url}: no answer within {_CONNECT_TIMEOUT_S:g} s") from None
        if not accepted:
            raise await _refusal_error(url, call)
        yield GrpcClientTransport(call)


def metadata_of(url: str, token: str | None) -> Iterator[tuple[str, str]]:
    """Yield the metadata of a call: its token, and the model that its URL names."""
    if token:
        yield "authorization", f"Bearer {token}"
    if name := urlsplit(url).path.strip("/").removeprefix("models/"):
        yield MODEL_KEY, name


def _channel(url: str) -> grpc.aio.Channel:
    parts = urlsplit(url)
    options = (("grpc.max_receive_message_length", _MAX_EVENT_BYTES), ("grpc.enable_retries", 0))
    if parts.scheme == "grpcs":
        return grpc.aio.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), options)
    return grpc.aio.insecure_channel(parts.netloc, options)


def _is_cancelled() -> bool:
    """Return whether this task is being cancelled: gRPC raises the same error for a cancelled call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _refusal_error(url: str, call: StreamCall) -> ConnectFailed:
    status, details, trailer = await call.code(), await call.details(), await _trailers(call)
    if "streamer-code" not in trailer:
        why = (details or status.name).rpartition(": ")[2]  # gRPC's text includes the path
        return ConnectFailed(f"cannot reach {url}: {why[:1].lower()}{why[1:]}")
    after = trailer.get("retry-after-ms", "")
    return HandshakeRefused(
        f"{url} refused the connection: {status.name} ({details})",
        status=status.value[0],
        retry_after_s=int(after) / 1000 if after.isdecimal() else None,
        code=error_code_of(trailer["streamer-code"]) or ErrorCode.INTERNAL,
    )


async def _trailers(call: StreamCall) -> dict[str, str]:
    return {key: value for key, value in await call.trailing_metadata() if isinstance(value, str)}
