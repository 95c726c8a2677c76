"""A WebSocket to a server, over aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import ClientTimeout, ClientWSTimeout, WSMsgType

from streamer.client.errors import ConnectFailed, HandshakeRefused
from streamer.client.link import LOST, SUBPROTOCOL, Closed

_CONNECT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_MAX_EVENT_BYTES = 16 * 1024 * 1024


class WebSocketLink:
    """Frames over one WebSocket: text as str, binary as bytes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._closed: Closed | None = None
        self._leaving = False

    async def send_frame(self, frame: str | bytes) -> None:
        if isinstance(frame, str):
            await self._socket.send_str(frame)
        else:
            await self._socket.send_bytes(frame)

    async def receive_frame(self) -> str | bytes | Closed:
        if self._closed is not None:
            return self._closed
        message = await self._socket.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            frame: str | bytes = message.data
            return frame
        if message.type is WSMsgType.CLOSE:
            self._closed = Closed(message.data or 1005, message.extra or "")
        elif message.type is WSMsgType.ERROR:
            self._closed = Closed(self._socket.close_code or LOST, str(message.data))
        elif self._leaving:
            self._closed = Closed(1000)
        else:  # aiohttp says 1000 of an end without a close frame
            self._closed = Closed(LOST, "connection lost")
        return self._closed

    async def close(self) -> Closed:
        self._leaving = True
        await self._socket.close()
        if self._closed is None:
            self._closed = Closed(self._socket.close_code or LOST)
        return self._closed


@asynccontextmanager
async def open_websocket(url: str, *, dialect: str, token: str | None) -> AsyncIterator[WebSocketLink]:
    """Connect. Raises HandshakeRefused where the server says no, ConnectFailed where there is none."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        try:
            socket = await http.ws_connect(
                url,
                headers=headers,
                protocols=(SUBPROTOCOL,) if dialect == "v2" else (),
                timeout=ClientWSTimeout(ws_close=_CLOSE_TIMEOUT_S),
                max_msg_size=_MAX_EVENT_BYTES,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(url, error) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ConnectFailed(f"cannot reach {url}: {_why(error)}") from error
        async with socket:
            yield WebSocketLink(socket)


def _refused(url: str, error: aiohttp.WSServerHandshakeError) -> HandshakeRefused:
    after = error.headers.get("Retry-After", "") if error.headers else ""
    return HandshakeRefused(
        f"{url} refused the connection: HTTP {error.status} ({error.message})",
        status=error.status,
        retry_after_s=float(after) if after.isdecimal() else None,
    )


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)  # whose text repeats the address
        return "connection refused" if refused else error.os_error.strerror or str(error)
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_TIMEOUT_S:g} s"
    return str(error) or type(error).__name__
