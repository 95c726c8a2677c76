"""The WebSocket shell: aiohttp frames to what a codec reads, failures to close codes. Nothing is interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from aiohttp import WSMsgType, web

from streamer.errors import ErrorCode
from streamer.transports.wire import CLOSE_CODES, NORMAL_CLOSE

Frame = str | bytes

_BINARY, _TEXT, _PING, _PONG = WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG


class WebSocketTransport:
    """One accepted WebSocket; a `runtime.transport.Transport`.

    Text frames are str, binary frames bytes. Invalid UTF-8 (1007), broken framing (1002) and messages past the limit
    (1009) are refused by aiohttp's parser before a byte of them is kept.
    """

    name = "websocket"

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self.peer = request.remote or "unknown"
        self.signs = 0

    async def receive(self) -> Frame | None:
        socket = self._socket
        while True:
            message = await socket.receive()
            kind = message.type
            if kind is _BINARY or kind is _TEXT:
                return message.data  # type: ignore[no-any-return]
            if kind is _PING:
                self.signs += 1
                await self._pong(message.data)
            elif kind is _PONG:
                self.signs += 1
            else:
                return None

    async def send(self, frame: Frame) -> None:
        if isinstance(frame, str):
            await self._socket.send_str(frame)
        else:
            await self._socket.send_bytes(frame)

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        number = NORMAL_CLOSE if code is None else CLOSE_CODES[code]
        await self._socket.close(code=number, message=reason.encode())

    def abort(self) -> None:
        if (transport := self._request.transport) is not None:
            transport.abort()

    async def _pong(self, data: bytes) -> None:
        with suppress(ConnectionError):  # the next receive says that the peer is gone
            await self._socket.pong(data)


def new_socket(subprotocols: Sequence[str], max_message_bytes: int, close_timeout_s: float) -> web.WebSocketResponse:
    """An unanswered WebSocket as the server wants it: no compression (a bomb needs one), messages bounded."""
    return web.WebSocketResponse(
        protocols=subprotocols,
        compress=False,
        max_msg_size=max_message_bytes + 1,  # aiohttp refuses a message of exactly its limit; ours still passes
        autoping=False,
        timeout=close_timeout_s,
    )
