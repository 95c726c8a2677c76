"""Accepting connections: who takes too long to become a session is dropped, and so is whoever is one too many."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from streamer.errors import ErrorCode, ListenFailed

log = logging.getLogger(__name__)

BACKLOG = 4_096
"""Connections that the kernel keeps while the loop is busy (Linux's own bound, unless net.core.somaxconn is raised).
When all clients come back at once, few should have to wait for TCP's retransmissions, which get minutes apart."""
_TURN_AWAY_S = 0.2
_TIMER_S = 0.01
"""What a timer of the loop may be early by."""
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Handshakes:
    """What is done about connections that are not sessions (yet)."""

    most: int
    timeout_s: float
    sessions: Callable[[], int]
    """Connections that are sessions by now."""
    refused: Callable[[ErrorCode, str], None]
    """Told of each that was one too many or took too long, by its address."""


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


class _TurnedAway(asyncio.Protocol):
    """A connection past the bound: told so without looking at what it says.

    It is closed once something came, or soon: to close with bytes unread would be a reset, and lose the answer.
    """

    def __init__(self, handshakes: Handshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._soon = asyncio.get_running_loop().call_later(_TURN_AWAY_S, transport.close)
        transport.write(_BUSY)
        self._handshakes.refused(ErrorCode.OVERLOADED, _address(transport))

    def data_received(self, data: bytes) -> None:
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._soon.cancel()


async def listen(
    application: web.Application,
    host: str,
    port: int,
    handshakes: Handshakes,
    *,
    tls: ssl.SSLContext | None = None,
    buffers: Buffers | None = None,
    shared: bool = False,
    shutdown_timeout_s: float,
) -> tuple[web.AppRunner, int]:
    """Serve an application; the port is the one that was taken where 0 was asked for. Raises ListenFailed.

    `shared`: other processes listen there too, and the kernel shares the connections out (SO_REUSEPORT).
    A request's head has to be there within the time-out, and so has the next one on a connection that is kept.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        logger=_HttpLog(log),
        keepalive_timeout=handshakes.timeout_s,
        shutdown_timeout=shutdown_timeout_s,
    )
    await runner.setup()
    site = _Site(runner, host, port, handshakes, buffers or Buffers(), tls, shared=shared)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ListenFailed(f"cannot listen on {host}:{port}: {reason.lower()}") from None
    return runner, runner.addresses[0][1]


class _Site(web.BaseSite):
    """aiohttp's TCPSite with a bound on handshakes, and with TLS's own handshake timed."""

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        handshakes: Handshakes,
        buffers: Buffers,
        tls: ssl.SSLContext | None,
        *,
        shared: bool,
    ) -> None:
        super().__init__(runner, ssl_context=tls)
        self._host, self._port = host, port
        self._handshakes = handshakes
        self._buffers = buffers
        self._tls = tls
        self._shared = shared

    @property
    def name(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    async def start(self) -> None:
        await super().start()
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            self._host,
            self._port,
            ssl=self._tls,
            ssl_handshake_timeout=self._handshakes.timeout_s if self._tls else None,
            backlog=BACKLOG,
            reuse_port=self._shared,
        )
        for listening in self._server.sockets:
            if self._buffers.send:
                listening.setsockopt(SOL_SOCKET, SO_SNDBUF, self._buffers.send)

    def _accept(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        if len(server.connections) - self._handshakes.sessions() >= self._handshakes.most:
            return _TurnedAway(self._handshakes)
        return _Connection(server, self._handshakes, self._buffers.receive)


class _Connection(web.RequestHandler):
    """A connection as aiohttp handles it, which says so where no request came in time (aiohttp closes it silently)."""

    __slots__ = ("_born", "_buffer", "_handshakes", "_peer")

    def __init__(self, server: web.Server, handshakes: Handshakes, buffer: int) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, **server._kwargs)
        self._handshakes = handshakes
        self._buffer = buffer
        self._born = loop.time()
        self._peer = "unknown"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peer = _address(transport)
        if self._buffer:
            # Set where it listens, it would narrow the scale of the window for good (RFC 7323), and then the kernel
            # acknowledges small messages from within our reads: with 20 ms, a twentieth of a server's CPU.
            transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, self._buffer)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        age_s = self._loop.time() - self._born
        if not self._request_count and age_s > self._handshakes.timeout_s - _TIMER_S:
            self._handshakes.refused(ErrorCode.START_TIMEOUT, self._peer)
        super().connection_lost(exc)


def _address(transport: asyncio.BaseTransport) -> str:
    return str((transport.get_extra_info("peername") or ("unknown",))[0])
