"""Listening sockets. Connections are accepted a few at a time, before anything is read."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

from streamer.errors import ListenFailed

log = logging.getLogger(__name__)

BACKLOG = 4_096
"""Connections that the kernel queues while the loop is busy (Linux's own limit, unless net.core.somaxconn is raised).
When all clients reconnect at once, few should wait for TCP's retransmissions, which are soon minutes apart."""
MAX_ACCEPTS_PER_TURN = 16
"""Connections accepted on a socket per iteration of the event loop."""
PAUSE_S = 1.0
"""Pause in seconds when the process or the machine has no descriptors or memory left."""
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


async def listening_sockets(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Return a listening socket for each address of a host. With port 0, all get the free port of the first one.

    `shared`: other processes listen on the port as well, and the kernel distributes the connections (SO_REUSEPORT).
    Raises ListenFailed.
    """
    listening: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            port_number = listening[0].getsockname()[1] if listening else port
            listening.append(_bound(family, (address[0], port_number, *address[2:]), shared=shared))
    except OSError as error:
        for each in listening:
            each.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ListenFailed(f"cannot listen on {host}:{port}: {reason.lower()}") from None
    return listening


def _bound(family: int, address: tuple[object, ...], *, shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


async def accept(listening: socket.socket, on_accepted: Callable[[socket.socket, str], None]) -> None:
    """Accept connections until cancelled. `on_accepted(connection, address)` takes a non-blocking socket."""
    loop = asyncio.get_running_loop()
    accepted = 0
    while True:
        try:
            connection, address = await loop.sock_accept(listening)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.error("cannot accept connections for %g s: %s", PAUSE_S, error)
                await asyncio.sleep(PAUSE_S)
            continue  # any other error concerns one connection that ended before it was accepted
        on_accepted(connection, str(address[0]) if address else "unknown")
        accepted += 1
        if accepted % MAX_ACCEPTS_PER_TURN == 0:
            await asyncio.sleep(0)
