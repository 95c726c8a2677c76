"""WebSocket connections: upgrade, messages and closes, which are not interpreted here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeaderValue
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from streamer.connection.budget import WorkBudget, WorkLimits
from streamer.connection.transport import FrameSink
from streamer.errors import ErrorCode, StreamerError
from streamer.session.memory import MemoryAccount, MemoryPool
from streamer.transports.detachable import DetachableTransport
from streamer.transports.frames import MESSAGE_TOO_BIG, FrameError, Unmask
from streamer.transports.messages import INVALID_UTF8
from streamer.transports.receive_coalescing import ReceiveCoalescer
from streamer.transports.status_codes import CLOSE_CODES, NORMAL_CLOSE, RATE_LIMITED_CLOSE, TRY_AGAIN_LATER_CLOSE
from streamer.transports.websocket_protocol import WebSocketProtocol

_unmask: Unmask
try:
    from websockets.speedups import apply_mask as _unmask
except ImportError:  # no C extension for this platform, or another version of the library
    from streamer.transports.unmask import unmask as _unmask

WebSocketFrame = str | bytes

_NORMAL_CLOSES = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)
MAX_SEND_NOW_BYTES = 8_192
"""Characters or bytes that are written at once if nothing else is queued: far below the 64 KiB above which a writer has
to wait for its peer."""
MESSAGES_BETWEEN_YIELDS = 16
"""Messages of one peer that its reader takes before other tasks run (which costs some 2 us)."""

NO_REASONS: Mapping[ErrorCode, str] = MappingProxyType({})

_UPGRADE_HEADERS = frozenset({"connection", "upgrade"})
_FAILURES = {
    INVALID_UTF8: ErrorCode.INVALID_UTF8,
    MESSAGE_TOO_BIG: ErrorCode.MESSAGE_TOO_BIG,
    1011: ErrorCode.INTERNAL,
    TRY_AGAIN_LATER_CLOSE: ErrorCode.OVERLOADED,
    RATE_LIMITED_CLOSE: ErrorCode.RATE_LIMITED,
}
"""Close codes of failed connections; any other is a protocol error."""

_log = logging.getLogger("streamer.websocket")
_log.setLevel(logging.WARNING)  # the library logs each opened and closed connection


class ServerHandshake(ServerProtocol):
    """The Sans-I/O layer of `websockets` for one request for an upgrade."""

    def __init__(self, served: Sequence[str]) -> None:
        """Create a handshake. `served`: supported subprotocols."""
        super().__init__(logger=_log)
        self._served = served

    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol | None:
        """Select the first offered subprotocol that is supported; if none is, no subprotocol is selected."""
        return next((name for name in subprotocols if name in self._served), None)


class ServerFrames(ServerProtocol):
    """The Sans-I/O layer of `websockets` for the frames of one open connection."""

    failure: tuple[int, str] | None = None
    """Close code and reason with which the peer was failed."""

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(state=State.OPEN, max_size=max_message_bytes, logger=_log)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Fail the connection; the reason for the peer is the name of the error."""
        if code != CloseCode.ABNORMAL_CLOSURE:
            self.failure = (int(code), reason)
        super().fail(code, _FAILURES.get(code, ErrorCode.PROTOCOL_ERROR).value)


class SwitchedProtocols(web.StreamResponse):
    """Placeholder for the answer that was written already; aiohttp has no part in the connection any more."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        pass


class WebSocketTransport:
    """One accepted WebSocket; implements `connection.transport.Transport`.

    Text frames are str, binary frames bytes. Invalid UTF-8 (1007), invalid frames (1002) and messages above the limit
    (1009) are refused before any byte of them is stored.
    """

    name = "websocket"

    def __init__(
        self,
        request: web.Request,
        subprotocols: Sequence[str],
        max_message_bytes: int,
        close_timeout_s: float,
        coalescer: ReceiveCoalescer | None = None,
        budget: WorkBudget | None = None,
        memory: MemoryPool | None = None,
        close_codes: Mapping[ErrorCode, int] = CLOSE_CODES,
        close_reasons: Mapping[ErrorCode, str] = NO_REASONS,
    ) -> None:
        """`memory`: for what has not been read whole; None: it is not bounded. `close_codes`: of each error.

        `close_reasons`: of errors whose reason in the close frame is not their code.
        """
        self.address = request.remote
        self.peer = self.address or "unknown"
        self._request: web.Request | None = request
        self._subprotocols = subprotocols
        self._max_message_bytes = max_message_bytes
        self._close_timeout_s = close_timeout_s
        self._coalescer = coalescer
        self._budget = budget or WorkBudget(WorkLimits())
        self._memory = memory or MemoryPool()
        self._close_codes = close_codes
        self._close_reasons = close_reasons
        self._received = 0
        self._connection: DetachableTransport | None = None
        self._protocol: WebSocketProtocol | None = None
        self.upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the request was answered with 101."""

    @property
    def is_upgraded(self) -> bool:
        """Whether the request was answered with 101."""
        return self._protocol is not None

    @property
    def control_frames_received(self) -> int:
        """Number of pings and pongs received."""
        return self._protocol.control_frames if self._protocol is not None else 0

    @property
    def has_peer_closed(self) -> bool:
        """Whether the peer sent a close frame with 1000, 1001 (it leaves its page), or without a code."""
        return self._protocol is not None and self._protocol.peer_close_code in _NORMAL_CLOSES

    def upgrade(self, headers: Mapping[str, str] | None = None) -> None:
        """Answer with 101, once. `headers`: further ones of the answer.

        Raises ConnectionError if the client has disconnected, and web.HTTPException for a request that is not an
        upgrade.
        """
        if self._request is None:
            return
        connection = self._request.transport
        if not isinstance(connection, DetachableTransport):
            raise ConnectionResetError("the client is gone")
        answer = _handshake(self._request, self._subprotocols, headers or {})
        self._request = None
        self._connection = connection
        self._protocol = connection.detach(self._protocol_on, answer)
        self.upgraded.set_result(None)

    async def receive(self) -> WebSocketFrame | None:
        protocol = self._upgraded()
        self._received += 1
        if not self._received % MESSAGES_BETWEEN_YIELDS:
            await asyncio.sleep(0)
        try:
            return await protocol.receive()
        except FrameError as error:
            code = _FAILURES.get(error.code, ErrorCode.PROTOCOL_ERROR)
            raise StreamerError(str(error), code=code) from None

    def set_sink(self, sink: FrameSink[WebSocketFrame] | None) -> None:
        if self._protocol is not None:
            self._protocol.set_sink(sink)

    async def send(self, frame: WebSocketFrame) -> None:
        protocol = self._upgraded()
        protocol.write(frame)
        await protocol.drain()

    def send_now(self, frame: WebSocketFrame) -> bool:
        protocol, connection = self._protocol, self._connection
        if protocol is None or connection is None or len(frame) > MAX_SEND_NOW_BYTES:
            return False
        if not protocol.is_open or connection.unsent_bytes:
            return False
        protocol.write(frame)
        return True

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        if self._protocol is None:
            return
        self.set_sink(None)
        try:
            async with asyncio.timeout(self._close_timeout_s):
                if code is None:
                    await self._protocol.close(NORMAL_CLOSE, reason)
                else:
                    await self._protocol.close(self._close_codes[code], self._close_reasons.get(code, reason))
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort_connection()

    def _protocol_on(self, transport: asyncio.Transport) -> WebSocketProtocol:
        most, memory = self._max_message_bytes, MemoryAccount(self._memory)
        return WebSocketProtocol(ServerFrames, transport, most, _unmask, self._coalescer, self._budget, memory)

    def _upgraded(self) -> WebSocketProtocol:
        assert self._protocol is not None, "upgrade() comes first"
        return self._protocol


def _handshake(request: web.Request, subprotocols: Sequence[str], headers: Mapping[str, str]) -> bytes:
    """Return the bytes of the answer 101. Raises web.HTTPException for a request that is not an upgrade."""
    handshake = ServerHandshake(subprotocols)
    answer = handshake.accept(Request(request.path_qs, _headers_of_upgrade(request), request.method))
    vars(handshake).clear()  # it references itself, and would wait for Python's collector
    if answer.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        for name, value in headers.items():
            answer.headers[name] = value
        return answer.serialize()
    text = (answer.body or b"").decode().strip()
    if answer.status_code == HTTPStatus.UPGRADE_REQUIRED:
        raise web.HTTPUpgradeRequired(text=text, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    raise web.HTTPBadRequest(text=text)


def _headers_of_upgrade(request: web.Request) -> Headers:
    """Return the headers that an upgrade depends on. Raises web.HTTPBadRequest for one of them that is not text.

    The library refuses every header with such a value, also a cookie's or a proxy's, which are of no concern here.
    """
    headers = Headers()
    for name, value in request.headers.items():
        lowered = name.lower()
        if lowered in _UPGRADE_HEADERS or lowered.startswith("sec-websocket-"):
            try:
                headers[name] = value
            except InvalidHeaderValue:
                raise web.HTTPBadRequest(text=f"{name}: expected ASCII, got {value[:60]!a}") from None
    return headers
