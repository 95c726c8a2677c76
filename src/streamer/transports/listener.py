"""Accepts connections: limits their number and time until they are sessions, and gives them to aiohttp."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from itertools import islice
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, cast

from aiohttp import web

from streamer.access import Proxies
from streamer.connection.admission import network_of
from streamer.connection.meter import Meter
from streamer.errors import ErrorCode
from streamer.transports.accepting import accept, listening_sockets
from streamer.transports.detachable import DetachableTransport
from streamer.transports.http import HttpLog
from streamer.transports.limits import Buffers, HandshakeLimits
from streamer.transports.proxy_protocol import ProxyHeaderReader

log = logging.getLogger(__name__)

TLS_SHUTDOWN_TIMEOUT_S = 5.0
"""Time in seconds for a peer to end TLS before its connection is cut off."""
MIN_SILENCE_S = 0.5
"""Age in seconds below which a connection is not replaced: its request may be on its way."""
_MAX_LOOKS = 64
"""Oldest connections that are checked for one to replace."""
_MAX_UNCHARGED_S = 0.001
"""CPU time of one connection beyond which it is charged before the connection ends."""
_TLS_HANDSHAKE_S = 0.001
"""CPU time of a TLS handshake, an estimate: it is spent in the event loop, where it cannot be measured."""
_TURN_AWAY_S = 0.2
_MAX_TURNED_AWAY = 100
"""Connections that are answered with 503 at a time; further ones are closed without an answer."""
_TIMER_S = 0.01
"""Time in seconds by which a timer of the loop may be early."""
_OVERLOADED_RESPONSE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
_TOO_MUCH = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_MAX_HEAD_BYTES = 64 * 1024
"""Bytes of a head up to which it is examined; aiohttp refuses much shorter ones."""
_MAX_EARLY_BYTES = 64 * 1024
"""Bytes after which reading a connection pauses until its protocol is known."""
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*websocket", re.IGNORECASE)


class Listener:
    """Serves an aiohttp application on one port, from `start` to `stop`."""

    def __init__(
        self,
        application: web.Application,
        limits: HandshakeLimits,
        *,
        tls: ssl.SSLContext | None = None,
        buffers: Buffers | None = None,
        proxies: Proxies | None = None,
        shutdown_timeout_s: float,
    ) -> None:
        """Create a listener. `proxies`: trusted ones, whose connections have the limits of their clients."""
        self.limits = limits
        self._proxies = proxies or Proxies()
        self._introductions = ProxyHeaderReader(self._proxies, limits.max_connections, limits.timeout_s, self._admit)
        self.connections: dict[HttpConnection, None] = {}
        """Connections that are not sessions (yet), in the order of their accept."""
        self._of_network: Counter[str] = Counter()
        self.opening: set[asyncio.Task[None]] = set()
        """A task for each connection until its protocol is set and TLS is negotiated."""
        self._tls = tls
        self._buffers = buffers or Buffers()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._refusing: set[socket.socket] = set()
        application.on_response_prepare.append(_end_after_refusal)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=HttpLog(log),
            keepalive_timeout=limits.timeout_s,
            shutdown_timeout=shutdown_timeout_s,
        )

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; return the port. Raises ListenFailed.

        `shared`: other processes listen on the port as well, and the kernel distributes the connections (SO_REUSEPORT).
        """
        self._sockets = await listening_sockets(host, port, shared=shared)
        await self._runner.setup()
        for listening in self._sockets:
            if self._buffers.send:
                listening.setsockopt(SOL_SOCKET, SO_SNDBUF, self._buffers.send)
            self._accepting.append(asyncio.create_task(accept(listening, self._introductions.begin), name="accept"))
        bound_port: int = self._sockets[0].getsockname()[1]
        return bound_port

    async def stop(self) -> None:
        """Stop accepting, let running requests end within the shutdown time, and close the rest."""
        await _cancelled(self._accepting)
        self._accepting.clear()
        while self._sockets:
            self._sockets.pop().close()
        for connection in tuple(self._refusing):
            self._close(connection)
        await self._introductions.stop()
        await _cancelled(self.opening)
        await self._runner.cleanup()

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is used."""
        return self._tls is not None

    def http_protocol(self) -> web.RequestHandler:
        """Return aiohttp's protocol for a new connection."""
        server = self._runner.server
        assert server is not None
        return server()

    def add(self, connection: HttpConnection) -> None:
        """Count a connection."""
        self.connections[connection] = None
        self._of_network[connection.network] += 1

    def remove(self, connection: HttpConnection) -> None:
        """Stop counting a connection."""
        del self.connections[connection]
        self._of_network[connection.network] -= 1
        if not self._of_network[connection.network]:
            del self._of_network[connection.network]

    def _admit(self, connection: socket.socket, address: str) -> None:
        """Open a connection, or turn it away. A trusted proxy's own address has no limits but the total."""
        addresses, is_proxy = self.limits.addresses, self._proxies.trusts(address)
        started_at, wait_s = addresses.clock.cpu(), 0.0 if is_proxy else addresses.wait_s(address)
        if wait_s > 0 or not self._has_room(address):
            self._refuse(connection, _TOO_MUCH % math.ceil(wait_s) if wait_s else _OVERLOADED_RESPONSE)
            self.limits.on_refused(ErrorCode.RATE_LIMITED if wait_s else ErrorCode.OVERLOADED, address)
            addresses.charge(address, addresses.clock.cpu() - started_at)
            return
        if self._buffers.receive:
            # On the listening socket it would limit the window scale for good (RFC 7323), and then the kernel
            # acknowledges small messages within our reads: with 20 ms, a twentieth of a server's CPU.
            connection.setsockopt(SOL_SOCKET, SO_RCVBUF, self._buffers.receive)
        protocol = HttpConnection(self, address, is_proxy=is_proxy)
        opening = protocol.meter.run(self._open(connection, protocol))
        task = protocol.opening = asyncio.create_task(opening, name="open-connection")
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    def _has_room(self, address: str) -> bool:
        """Return whether another connection of an address may be accepted.

        If the limit is reached, the connection that has been silent for the longest is closed, so that silent
        connections cannot lock out others.
        """
        is_full = self._of_network[network_of(address)] >= self.limits.max_per_address
        if is_full and not self._proxies.trusts(address):
            return False
        if len(self.connections) < self.limits.max_connections:
            return True
        now = asyncio.get_running_loop().time()
        for oldest in islice(self.connections, _MAX_LOOKS):
            if now - oldest.accepted_at < MIN_SILENCE_S:
                return False
            if oldest.is_silent:
                oldest.evict()
                self.limits.on_refused(ErrorCode.OVERLOADED, oldest.address)
                return True
        return False

    async def _open(self, connection: socket.socket, protocol: HttpConnection) -> None:
        tls: dict[str, Any] = {}
        if self._tls is not None:
            tls = {
                "ssl": self._tls,
                "ssl_handshake_timeout": self.limits.timeout_s,
                "ssl_shutdown_timeout": TLS_SHUTDOWN_TIMEOUT_S,
            }
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection, **tls)
        except OSError as error:  # includes ssl.SSLError and TimeoutError
            log.debug("connection from %s failed before it was open: %s", protocol.address, error)
            protocol.forget()
            connection.close()
        except asyncio.CancelledError:
            protocol.forget()
            connection.close()
            raise
        finally:
            protocol.opening = None

    def _refuse(self, connection: socket.socket, answer: bytes) -> None:
        """Send `answer` without reading the request; not over TLS, which would have to be negotiated first.

        The connection is closed soon afterwards: closing it with unread bytes would be a reset and lose the answer.
        """
        if self._tls is None and len(self._refusing) < _MAX_TURNED_AWAY:
            with suppress(OSError):
                connection.send(answer)
                connection.shutdown(socket.SHUT_WR)
                self._refusing.add(connection)
                asyncio.get_running_loop().call_later(_TURN_AWAY_S, self._close, connection)
                return
        connection.close()

    def _close(self, connection: socket.socket) -> None:
        self._refusing.discard(connection)
        with suppress(OSError):
            connection.recv(_MAX_HEAD_BYTES)
        connection.close()


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class HttpConnection(asyncio.Protocol):
    """One connection until it ends or becomes a WebSocket. Its bytes go to aiohttp.

    If the first request asks for a WebSocket, aiohttp gets only its head: the following bytes are not HTTP. (RFC 6455,
    4.1, has clients wait for the answer. On a connection that is kept after another request they must.)
    """

    def __init__(self, listener: Listener, address: str, *, is_proxy: bool = False) -> None:
        """Count a connection. `is_proxy`: it carries requests of many clients, so its address is not charged."""
        loop = asyncio.get_running_loop()
        self.address = address
        self._is_proxy = is_proxy
        self.network = network_of(address)
        self.meter = Meter(listener.limits.addresses.clock.cpu)
        self._listener = listener
        self.accepted_at = loop.time()
        self.opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = loop.call_later(listener.limits.timeout_s, self._time_out)
        self._transport: asyncio.Transport | None = None
        self._http: web.RequestHandler | None = None
        self._head: bytearray | None = bytearray()
        """Received part of the first request's head; None once it is complete."""
        self._early = b""
        """Bytes after the head of an upgrade, until a protocol takes them."""
        self._on_lost: Callable[[], None] | None = None
        self._is_upgrade = False
        """Whether the first request asks for a WebSocket."""
        listener.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are not subclasses
        if self._listener.is_encrypted:
            self.meter.spent_s += _TLS_HANDSHAKE_S
        self._http = self._listener.http_protocol()
        self._http.connection_made(DetachableTransport(connection, self._take_over, self.address))

    def data_received(self, data: bytes) -> None:
        with self.meter:
            self._data_received(data)
        if self.meter.spent_s > _MAX_UNCHARGED_S and self._on_lost is None:
            self._charge()

    def _data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._first_head(data)
        if self._is_upgrade:
            self._early += data
            if self._transport is not None and len(self._early) > _MAX_EARLY_BYTES:
                self._transport.pause_reading()
        elif data and self._http is not None:
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
        with self.meter:
            self.forget()
            http, self._http = self._http, None
            if http is not None:
                http.connection_lost(exc)
        if self._on_lost is None:
            self._charge()
        else:
            self._on_lost()

    def become_session(self, on_lost: Callable[[], None]) -> Meter:
        """Stop counting the connection: its request is a session, and its last one.

        `on_lost` is called when it ends. Returns the meter of its CPU time, which the session has to be charged for.
        """
        self.forget()
        self._on_lost = on_lost
        return self.meter

    def _charge(self) -> None:
        """Count what the connection has cost for its address, if it was no session."""
        spent_s = self.meter.take()
        if not self._is_proxy:
            self._listener.limits.addresses.charge(self.address, spent_s)

    @property
    def is_silent(self) -> bool:
        """Whether the head of the first request, or the TLS handshake, is incomplete."""
        return self._head is not None

    def evict(self) -> None:
        """Close the connection in favour of a newer one."""
        self._head = None  # it was not too slow: there were too many
        self.forget()
        if self._transport is None:
            if self.opening is not None:
                self.opening.cancel()
        else:
            if not self._listener.is_encrypted:
                self._transport.write(_OVERLOADED_RESPONSE)
            self._transport.close()

    def forget(self) -> None:
        """Stop counting the connection: it is a session now, or has ended, perhaps by its time-out."""
        if self not in self._listener.connections:
            return
        self._listener.remove(self)
        self._stop_timer()
        age_s = asyncio.get_running_loop().time() - self.accepted_at
        if self._head is not None and age_s > self._listener.limits.timeout_s - _TIMER_S:
            self._listener.limits.on_refused(ErrorCode.START_TIMEOUT, self.address)

    def _first_head(self, data: bytes) -> bytes:
        """Give aiohttp the head of the first request; return the bytes after it."""
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
        self._is_upgrade = _UPGRADE.search(head, 0, end) is not None
        self._head = None
        self._stop_timer()
        self._http.data_received(data[: len(data) - len(rest)])  # type: ignore[union-attr]
        return rest

    def _take_over(self) -> bytes:
        """Hand the connection over: stop counting it, and detach aiohttp."""
        self.forget()
        early, self._early = self._early, b""
        http, self._http = self._http, None
        if http is not None:
            http.connection_lost(None)
        return early

    def _time_out(self) -> None:
        """Close a connection without a complete head in time. (The TLS handshake has the same time-out.)"""
        if self._transport is not None:
            self._transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _end_after_refusal(request: web.Request, response: web.StreamResponse) -> None:
    """Close a connection after refusing an upgrade: the following bytes are not HTTP."""
    if request.headers.get("Upgrade", "").lower() == "websocket":
        response.force_close()
        response.headers["Connection"] = "close"
