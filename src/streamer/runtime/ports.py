"""Ports: how a setting names one, and how several processes share one that is taken before any of them starts."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from streamer.errors import ConfigError, ListenFailed


class SharedPorts:
    """Ports that are ours, from `take` to the end of the context.

    The sockets here are bound and never listen, so the kernel gives them no connection. Whoever listens on the port
    beside us has to say SO_REUSEPORT and be of the same user.
    """

    def __init__(self) -> None:
        """Raises ConfigError where the kernel does not share a port's connections out."""
        if not sys.platform.startswith("linux"):
            raise ConfigError(field="server.processes", expected="1 on this system (more need Linux)", got=sys.platform)
        self._held = ExitStack()

    def take(self, host: str, port: int) -> int:
        """Take a port on all addresses of a host; 0 takes a free one. Returns which. Raises ListenFailed."""
        try:
            for family, address in _addresses(host):
                _refuse_a_stranger(family, address, port)
                port = self._hold(family, address, port)  # the addresses after the first get the same one
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise ListenFailed(f"cannot listen on {host}:{port}: {reason.lower()}") from None
        return port

    def _hold(self, family: int, address: str, port: int) -> int:
        held = self._held.enter_context(_socket(family))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            # Without SO_REUSEADDR, a second server that starts at the same moment is refused before anybody listens.
            held.bind((address, port))
        except OSError:  # connections of a server that has just ended still linger
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((address, port))
        return int(held.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()


def host_and_port(address: str, field: str) -> tuple[str, int]:
    """`host:port`, with an IPv6 host in brackets; `field` is the setting's name. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(field=field, expected="host:port", got=address)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _addresses(host: str) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


def _socket(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as asyncio does
    return made


def _refuse_a_stranger(family: int, address: str, port: int) -> None:
    """With SO_REUSEPORT alone, another server of the same user would share its port with us without a word."""
    with _socket(family) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind((address, port))
