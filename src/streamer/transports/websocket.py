"""The WebSocket shell: aiohttp frames to what a codec reads, failures to close codes. Nothing is interpreted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import WebSocketError, WSMessage, WSMsgType, web

from streamer.errors import ErrorCode, StreamerError
from streamer.runtime.transport import Ear
from streamer.transports.patience import Patience
from streamer.transports.shortcut import Shortcut, without_waiting
from streamer.transports.wire import CLOSE_CODES, NORMAL_CLOSE

Frame = str | bytes

_BINARY, _TEXT, _PING, _PONG = WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG


_REFUSED = {1007: ErrorCode.INVALID_UTF8, 1009: ErrorCode.MESSAGE_TOO_BIG}
"""What aiohttp closes with by itself; anything else is a protocol error."""
FAIR_SHARE = 16
"""Messages of one peer after which the others have their turn. aiohttp hands out what is queued without ever waiting: a
peer that sends 10 000 pings in one piece would hold the loop for a fifth of a second, and an overloaded server's loop
comes round as often as its peers let it. (A turn given up costs some 2 us.)"""


AT_ONCE = 8_192
"""Characters or bytes that may be written while nothing else waits to be: far below the 64 KiB past which a writer has
to wait for its peer."""


class WebSocketTransport:
    """One accepted WebSocket; a `runtime.transport.Transport`.

    Text frames are str, binary frames bytes. Invalid UTF-8 (1007), broken framing (1002) and messages past the limit
    (1009) are refused by aiohttp's parser before a byte of them is kept.
    """

    name = "websocket"

    def __init__(
        self,
        request: web.Request,
        subprotocols: Sequence[str],
        max_message_bytes: int,
        close_timeout_s: float,
        patience: Patience | None = None,
    ) -> None:
        self.peer = request.remote or "unknown"
        self.signs = 0
        self.response = web.WebSocketResponse(
            protocols=subprotocols,
            compress=False,  # audio does not compress, and what inflates can be a bomb
            max_msg_size=max_message_bytes + 1,  # aiohttp refuses a message of exactly its limit; ours still passes
            autoping=False,
            timeout=close_timeout_s,
        )
        self._request = request
        self._close_timeout_s = close_timeout_s
        self._received = 0
        self._most = max_message_bytes
        self._patience = patience
        self._shortcut: Shortcut | None = None

    async def upgrade(self) -> None:
        """Answer with 101, once."""
        if not self.response.prepared:
            await self.response.prepare(self._request)
            with suppress(AttributeError, ImportError):
                self._shortcut = Shortcut(self.response, self._request.protocol, self._most, self._patience)

    async def receive(self) -> Frame | None:
        socket = self.response
        while True:
            self._received += 1
            if not self._received % FAIR_SHARE:
                await asyncio.sleep(0)
            if self._shortcut is not None:
                await self._shortcut.something()
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
                _let_go(self.response.exception())
                _check(message)
                return None

    def hand_over(self, ear: Ear[Frame] | None) -> None:
        if self._shortcut is not None:
            self._shortcut.hand_over(ear)

    async def send(self, frame: Frame) -> None:
        await self._sending(frame)

    def send_now(self, frame: Frame) -> bool:
        line = self._request.transport
        if line is None or line.get_write_buffer_size() or len(frame) > AT_ONCE:
            return False
        try:
            without_waiting(self._sending(frame))
        except ConnectionError:
            return False
        return True

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        number = NORMAL_CLOSE if code is None else CLOSE_CODES[code]
        self.hand_over(None)
        try:
            # aiohttp bounds the wait for the peer's answer, but not that for room to say goodbye in.
            async with asyncio.timeout(self._close_timeout_s):
                await self.response.close(code=number, message=reason.encode())
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        if (transport := self._request.transport) is not None:
            transport.abort()

    def _sending(self, frame: Frame) -> Coroutine[Any, Any, None]:
        return self.response.send_str(frame) if isinstance(frame, str) else self.response.send_bytes(frame)

    async def _pong(self, data: bytes) -> None:
        with suppress(ConnectionError):  # the next receive says that the peer is gone
            await self.response.pong(data)


def _check(message: WSMessage) -> None:
    """Raises StreamerError where the framing was wrong: aiohttp has closed the connection with this code."""
    if isinstance(message.data, WebSocketError):
        code = _REFUSED.get(message.data.code, ErrorCode.PROTOCOL_ERROR)
        raise StreamerError(str(message.data), code=code)


def _let_go(error: BaseException | None) -> None:
    """aiohttp keeps the error with which a connection ended, and the error keeps its frames, which keep the connection:
    without this a crowd that goes at once is left for the collector, and everybody waits for that."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
