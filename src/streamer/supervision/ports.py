"""Ports that several processes share, taken before any of them starts."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from streamer.errors import ConfigError, ListenFailed


class SharedPorts:
    """Reserves ports from `reserve` to the end of the context.

    The sockets are bound and never listen, so the kernel gives them no connection. A process that listens on such a
    port must set SO_REUSEPORT and belong to the same user.
    """

    def __init__(self) -> None:
        """Check that the kernel distributes the connections of a port. Raises ConfigError if not."""
        if not sys.platform.startswith("linux"):
            raise ConfigError(field="server.processes", expected="1 on this system (more need Linux)", got=sys.platform)
        self._sockets = ExitStack()

    def reserve(self, host: str, port: int) -> int:
        """Reserve a port on all addresses of a host; return its number. 0 selects a free port. Raises ListenFailed."""
        try:
            for family, address in _addresses(host):
                _check_not_in_use(family, address, port)
                port = self._bind(family, address, port)  # all addresses get the port of the first one
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ListenFailed(f"cannot listen on {host}:{port}: {reason.lower()}") from None
        return port

    def _bind(self, family: int, address: str, port: int) -> int:
        bound = self._sockets.enter_context(_socket(family))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            # Without SO_REUSEADDR, a second server that starts at the same time is refused before either listens.
            bound.bind((address, port))
        except OSError:  # connections of a server that has just ended still linger
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((address, port))
        return int(bound.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sockets.close()


def _addresses(host: str) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does
    return made


def _check_not_in_use(family: int, address: str, port: int) -> None:
    """Fail if another server of the same user has the port, which SO_REUSEPORT alone would share silently."""
    with _socket(family) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((address, port))
