"""A WebSocket to a server, over aiohttp."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated

import aiohttp
import msgspec
from aiohttp import ClientTimeout, ClientWSTimeout, WSMsgType

from streamer.client.errors import ConnectFailed, HandshakeRefused, error_code_of
from streamer.client.transport import LOST, NO_CODE, NORMAL, SUBPROTOCOL, Closed

_CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
_REFUSAL_TIMEOUT_S = 1.0
_MAX_EVENT_BYTES = 16 * 1024 * 1024
_MAX_REFUSAL_BYTES = 16 * 1024
"""Limit of the body of a refusal; a longer or later one comes from another program."""
_SWITCHING_PROTOCOLS = 101


class WebSocketClientTransport:
    """Sends and receives frames over one WebSocket: text as str, binary as bytes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, close_timeout_s: float) -> None:
        self._socket = socket
        self._close_timeout_s = close_timeout_s
        self._closed: Closed | None = None
        self._is_closing = False
        self._receiving = asyncio.Lock()

    async def send_frame(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            await self._socket.send_str(frame)
        else:
            await self._socket.send_bytes(frame)

    async def receive_frame(self) -> str | bytes | Closed:
        if self._closed is not None:
            return self._closed
        async with self._receiving:
            message = await self._socket.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame: str | bytes = message.data
            return frame
        if message.type is WSMsgType.CLOSE:
            self._closed = Closed(message.data or NO_CODE, message.extra or "")
        elif message.type is WSMsgType.ERROR:
            self._closed = Closed(self._socket.close_code or LOST, str(message.data))
        elif self._is_closing:
            self._closed = Closed(NORMAL)
        else:  # aiohttp reports 1000 for an end without a close frame
            self._closed = Closed(LOST, "connection lost")
        return self._closed

    def has_peer_disconnected(self) -> bool:
        """Ask the kernel: aiohttp stops reading when its own buffer is full, and then does not see the end.

        Returns False on Windows, where the kernel does not report it before everything was read.
        """
        descriptor = self._socket.get_extra_info("socket")
        return descriptor is None or descriptor.fileno() < 0 or _is_hung_up(descriptor.fileno())

    async def close(self) -> Closed:
        self._is_closing = True
        with suppress(TimeoutError):  # aiohttp's own time-out restarts with each message before the close
            async with asyncio.timeout(self._close_timeout_s):
                await self._socket.close()
                async with self._receiving:  # a task that receives finishes the close in place of this one
                    pass
        if self._closed is None:
            self._closed = Closed(self._socket.close_code or LOST)
        return self._closed


class _RefusalBody(msgspec.Struct, frozen=True):
    """Body of a refused handshake, as the server writes it. The body of another program has none of its fields."""

    code: str = ""
    message: str = ""
    retryable: bool | None = None
    retry_after_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class _RefusalReader:
    """Client middleware that reads the answer to a refused handshake, whose body `ws_connect` discards."""

    def __init__(self) -> None:
        self.reason = ""
        """Reason phrase of the answer."""
        self.refusal = _RefusalBody()
        """Body of the answer; after redirects, of the last one."""

    async def __call__(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await send(request)
        if response.status != _SWITCHING_PROTOCOLS:
            self.reason, self.refusal = response.reason or "", _RefusalBody()
            with suppress(msgspec.DecodeError, RecursionError):
                self.refusal = msgspec.json.decode(await _start_of_body(response), type=_RefusalBody)
        return response


@asynccontextmanager
async def open_websocket(
    url: str, *, dialect: str, token: str | None, close_timeout_s: float = CLOSE_TIMEOUT_S
) -> AsyncIterator[WebSocketClientTransport]:
    """Connect. `close_timeout_s`: time for the server to answer a close.

    Raises HandshakeRefused if the server refuses the connection, ConnectFailed if it cannot be reached.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
    answer = _RefusalReader()
    async with aiohttp.ClientSession(timeout=timeout, middlewares=(answer,)) as http:
        try:
            socket = await http.ws_connect(
                url,
                headers=headers,
                protocols=(SUBPROTOCOL,) if dialect == "v2" else (),
                timeout=ClientWSTimeout(ws_close=close_timeout_s),
                max_msg_size=_MAX_EVENT_BYTES,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal_error(url, error, answer) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectFailed(f"cannot reach {url}: {_reason(error)}") from error
        async with socket:
            yield WebSocketClientTransport(socket, close_timeout_s)


def _is_hung_up(descriptor: int) -> bool:
    """Return whether a socket's peer has closed its side, even if its data are unread."""
    if sys.platform == "win32":
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


async def _start_of_body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer up to a limit in bytes and time, or its part before an error."""
    body = b""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(_REFUSAL_TIMEOUT_S):
            while len(body) < _MAX_REFUSAL_BYTES and (chunk := await response.content.read(_MAX_REFUSAL_BYTES)):
                body += chunk
    return body


def _refusal_error(url: str, error: aiohttp.WSServerHandshakeError, answer: _RefusalReader) -> HandshakeRefused:
    """Return the error of a refusal: the server's own words, or the status and reason of another program."""
    after = error.headers.get("Retry-After", "") if error.headers else ""
    refusal = answer.refusal
    retry_after_s = refusal.retry_after_s
    if retry_after_s is None and after.isdecimal():
        retry_after_s = float(after)
    return HandshakeRefused(
        f"{url} refused the connection: HTTP {error.status} ({refusal.message or answer.reason or error.message})",
        status=error.status,
        retry_after_s=retry_after_s,
        code=error_code_of(refusal.code),
        retryable=refusal.retryable,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)  # its text repeats the address
        return "connection refused" if refused else error.os_error.strerror or str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_TIMEOUT_S:g} s"
    return str(error) or type(error).__name__
