"""Accept connections: bounded in number until they are sessions, timed, and handed to aiohttp or to a WebSocket."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from streamer.errors import ErrorCode, ListenFailed
from streamer.transports.detachable import DetachableTransport

log = logging.getLogger(__name__)

BACKLOG = 4_096
"""Connections that the kernel keeps while the loop is busy (Linux's own bound, unless net.core.somaxconn is raised).
When all clients come back at once, few should have to wait for TCP's retransmissions, which get minutes apart."""
TLS_SHUTDOWN_TIMEOUT_S = 5.0
"""How long a peer may take to end TLS before its connection is cut."""
_TURN_AWAY_S = 0.2
_TIMER_S = 0.01
"""What a timer of the loop may be early by."""
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
"""Past them it is not looked at; aiohttp refuses much shorter ones."""
_MAX_EARLY_BYTES = 64 * 1024
"""Past them a connection is not read until it is known who goes on with it."""
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*websocket", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HandshakeLimits:
    """Bounds on connections that are no sessions (yet)."""

    max_connections: int
    timeout_s: float
    """From the accept to the end of the first request's head, TLS included; and for the next head on a connection that
    is kept."""
    on_refused: Callable[[ErrorCode, str], None]
    """Called for each connection that was one too many or took too long, with its address."""


@dataclass(frozen=True, slots=True)
class Buffers:
    """Bytes that the kernel keeps of one connection: not read yet, not taken yet. 0 leaves it to the kernel, which may
    keep megabytes: memory that nothing else bounds, and a reader that stopped would be noticed that much later."""

    receive: int = 0
    send: int = 0


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp's server logs, but for strangers who do not speak HTTP: they would fill the log with tracebacks."""

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        if isinstance(kwargs.get("exc_info"), HttpProcessingError):
            self.debug(msg, *args)
        else:
            super().exception(msg, *args, **kwargs)


class Listener:
    """Serves an aiohttp application on one port, from `start` to `stop`."""

    def __init__(
        self,
        application: web.Application,
        limits: HandshakeLimits,
        *,
        tls: ssl.SSLContext | None = None,
        buffers: Buffers | None = None,
        shutdown_timeout_s: float,
    ) -> None:
        self.limits = limits
        self.tls = tls
        self.buffers = buffers or Buffers()
        self.connections: set[HttpConnection] = set()
        """Connections that are no sessions (yet), from the accept on."""
        self.tls_handshakes: set[asyncio.Task[None]] = set()
        application.on_response_prepare.append(_end_after_refusal)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_HttpLog(log),
            keepalive_timeout=limits.timeout_s,
            shutdown_timeout=shutdown_timeout_s,
        )
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; returns the port, the one that was taken if 0 was asked for. Raises ListenFailed.

        `shared`: other processes listen there too, and the kernel shares the connections out (SO_REUSEPORT).
        """
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: HttpConnection(self), host, port, backlog=BACKLOG, reuse_port=shared
            )
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ListenFailed(f"cannot listen on {host}:{port}: {reason.lower()}") from None
        for listening in self._server.sockets:
            if self.buffers.send:
                listening.setsockopt(SOL_SOCKET, SO_SNDBUF, self.buffers.send)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def stop(self) -> None:
        """Accept no more, let requests under way end within the shutdown time, and close the rest."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self.tls_handshakes):
            task.cancel()
        await self._runner.cleanup()
        for connection in tuple(self.connections):
            connection.abort()

    def http_protocol(self) -> web.RequestHandler:
        """Return aiohttp's protocol for one more connection."""
        server = self._runner.server
        assert server is not None
        return server()


class HttpConnection(asyncio.Protocol):
    """One connection, until it ends or becomes a WebSocket. Its bytes go to aiohttp.

    Of the first request, if it asks for a WebSocket, aiohttp gets the head alone: what follows is not for HTTP. (RFC
    6455, 4.1, has clients wait for the answer. On a connection that is kept after another request they have to.)
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._accepted_at = asyncio.get_running_loop().time()
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._http: web.RequestHandler | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer = "unknown"
        self._head: bytearray | None = bytearray()
        """What has come of the first request's head; None once it is there."""
        self._early = b""
        """What came before anyone could take it: during TLS's handshake, or after the head of an upgrade."""
        self.is_upgrade = False
        """The first request asks for a WebSocket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self._listener
        limits = listener.limits
        raw = self._raw = cast("asyncio.Transport", transport)  # uvloop's transports are no subclasses
        self._peer = str((raw.get_extra_info("peername") or ("unknown",))[0])
        if len(listener.connections) >= limits.max_connections:
            self._turn_away(raw)
            return
        listener.connections.add(self)
        if listener.buffers.receive:
            # Set where it listens, it would narrow the scale of the window for good (RFC 7323), and then the kernel
            # acknowledges small messages from within our reads: with 20 ms, a twentieth of a server's CPU.
            raw.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, listener.buffers.receive)
        self._timer = asyncio.get_running_loop().call_later(limits.timeout_s, self._time_out)
        if listener.tls is None:
            self._begin(raw)
        else:
            task = asyncio.create_task(self._encrypt(raw, listener.tls), name="tls-handshake")
            listener.tls_handshakes.add(task)
            task.add_done_callback(listener.tls_handshakes.discard)

    def data_received(self, data: bytes) -> None:
        if self._http is None:
            self._take_early(data)
            return
        if self._head is not None:
            data = self._first_head(data)
        if self.is_upgrade:
            self._early += data
            if self._transport is not None and len(self._early) > _MAX_EARLY_BYTES:
                self._transport.pause_reading()
        elif data:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        if self._http is not None:
            self._http.eof_received()
        return None

    def pause_writing(self) -> None:
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        if self._http is not None:
            self._http.connection_lost(exc)
            self._http = None

    def abort(self) -> None:
        """Cut the connection off."""
        if self._raw is not None:
            self._raw.abort()

    def _begin(self, transport: asyncio.Transport) -> None:
        """Speak HTTP on this transport."""
        assert self._raw is not None
        self._transport = transport
        self._http = self._listener.http_protocol()
        self._http.connection_made(DetachableTransport(transport, self._raw, self._take_over))
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    async def _encrypt(self, raw: asyncio.Transport, tls: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                raw,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._listener.limits.timeout_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            log.debug("TLS handshake of %s failed: %s", self._peer, error)
            transport = None
        if transport is None:
            self.abort()
            self._forget()
        else:
            self._begin(transport)

    def _first_head(self, data: bytes) -> bytes:
        """Give aiohttp what belongs to the head of the first request; returns what follows it."""
        head = self._head
        assert head is not None
        searched = max(0, len(head) - len(_END_OF_HEAD) + 1)
        head += data
        found = head.find(_END_OF_HEAD, searched)
        if found < 0:
            if len(head) > _MAX_HEAD_BYTES:
                self._head = None
            self._http.data_received(data)  # type: ignore[union-attr] # it refuses a head that is too long
            return b""
        end = found + len(_END_OF_HEAD)
        rest = bytes(head[end:])
        self.is_upgrade = _UPGRADE.search(head, 0, end) is not None
        self._head = None
        self._stop_timer()
        self._http.data_received(data[: len(data) - len(rest)])  # type: ignore[union-attr]
        return rest

    def _take_over(self) -> bytes:
        """The connection becomes another's: it counts no more, and aiohttp lets go of it."""
        self._forget()
        early, self._early = self._early, b""
        http, self._http = self._http, None
        if http is not None:
            http.connection_lost(None)
        return early

    def _turn_away(self, raw: asyncio.Transport) -> None:
        """One connection too many: told so without looking at what it says; not over TLS, which would have to be
        negotiated first.

        It is closed soon, not now: to close with bytes unread would be a reset, and lose the answer.
        """
        if self._listener.tls is None:
            raw.write(_BUSY)
            self._timer = asyncio.get_running_loop().call_later(_TURN_AWAY_S, raw.close)
        else:
            raw.close()
        self._listener.limits.on_refused(ErrorCode.OVERLOADED, self._peer)

    def _take_early(self, data: bytes) -> None:
        if self in self._listener.connections:
            self._early += data  # the handshake of TLS is over, and its task does not know yet
        elif self._raw is not None:
            self._raw.close()  # it has been turned away

    def _time_out(self) -> None:
        """No whole head of a request came in time."""
        transport = self._transport or self._raw
        assert transport is not None
        transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        """It is a session now, or gone."""
        counted = self in self._listener.connections
        self._listener.connections.discard(self)
        self._stop_timer()
        age_s = asyncio.get_running_loop().time() - self._accepted_at
        if counted and self._head is not None and age_s > self._listener.limits.timeout_s - _TIMER_S:
            self._listener.limits.on_refused(ErrorCode.START_TIMEOUT, self._peer)


async def _end_after_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Close a connection after an answer to an upgrade that did not become a WebSocket: it is not read any more."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        response.force_close()
        response.headers["Connection"] = "close"
