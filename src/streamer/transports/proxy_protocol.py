"""Reads the header of HAProxy's PROXY protocol, version 1 or 2, at the start of a connection.

The header is read from the socket before a protocol or TLS sees it, and not one byte more.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from streamer.access import Proxies

log = logging.getLogger(__name__)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""First bytes of version 2."""
_MAX_LINE = 107
"""Bytes of the longest header of version 1."""
_MAX_BLOCK = 2_048
"""Bytes of addresses and extensions of version 2 that are accepted."""
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = range(4)
"""Address families, in the upper half of a byte."""


class ProxyHeaderError(ValueError):
    """The connection does not begin with a valid header."""


class ProxyHeaderReader:
    """Finds the client of each accepted connection: a trusted proxy names it in a header."""

    def __init__(
        self, proxies: Proxies, max_waiting: int, timeout_s: float, admit: Callable[[socket.socket, str], None]
    ) -> None:
        """Create it. `max_waiting`: connections without a header yet. `admit`: takes a connection and its client."""
        self._proxies = proxies
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._admit = admit
        self._waiting: set[asyncio.Task[None]] = set()

    def begin(self, connection: socket.socket, peer: str) -> None:
        """Admit a connection: at once, or when its header has come."""
        if not self._proxies.begins_with_header(peer):
            self._admit(connection, peer)
        elif len(self._waiting) >= self._max_waiting:
            connection.close()
        else:
            task = asyncio.create_task(self._read(connection, peer), name="read-proxy-header")
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def stop(self) -> None:
        """Close the connections without a header."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def _read(self, connection: socket.socket, proxy: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await read_header(connection)
        except (ProxyHeaderError, OSError) as error:  # includes TimeoutError
            connection.close()
            # The log limits repeated messages.
            log.warning(
                "a connection from the trusted proxy %s was closed: %s. Expected a header of the PROXY protocol, as "
                "server.proxy_header says",
                proxy,
                str(error) or "its header did not come in time",
            )
        except asyncio.CancelledError:
            connection.close()
            raise
        else:
            self._admit(connection, client or proxy)


async def read_header(connection: socket.socket) -> str | None:
    """Return the client's address; None if the proxy speaks for itself (a health check) or does not know.

    Raises ProxyHeaderError and OSError.
    """
    start = await _read(connection, len(SIGNATURE))
    if start == SIGNATURE:
        return await _version_2(connection)
    if start.startswith(b"PROXY "):
        return _version_1(await _line(connection, start))
    raise ProxyHeaderError("it does not begin with a header of the PROXY protocol")


def _version_1(line: bytes) -> str | None:
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyHeaderError("its header of version 1 is malformed")
    try:
        return str(ip_address(words[2]))
    except ValueError:
        raise ProxyHeaderError("its header of version 1 has no valid address") from None


async def _version_2(connection: socket.socket) -> str | None:
    command, family, *length = await _read(connection, 4)
    size = int.from_bytes(bytes(length), "big")
    if command not in (_LOCAL, _PROXY) or size > _MAX_BLOCK:
        raise ProxyHeaderError("its header of version 2 is malformed")
    block = await _read(connection, size)
    if command == _LOCAL:
        return None
    family >>= 4
    if family == _IPV4 and size >= 12:
        return str(IPv4Address(block[:4]))
    if family == _IPV6 and size >= 36:
        ip = IPv6Address(block[:16])
        return str(ip.ipv4_mapped or ip)
    if family in (_UNSPECIFIED, _UNIX):
        return None
    raise ProxyHeaderError("its header of version 2 is malformed")


async def _line(connection: socket.socket, start: bytes) -> bytes:
    """Return a line without its end. `start`: the bytes that were read already."""
    line = start
    while not line.endswith(b"\r\n"):
        if len(line) >= _MAX_LINE:
            raise ProxyHeaderError("its header of version 1 is longer than 107 bytes")
        line += await _read(connection, _missing(connection))
    return line[:-2]


def _missing(connection: socket.socket) -> int:
    """Return how many bytes may be read without reading beyond the line: at least one."""
    try:
        data = connection.recv(_MAX_LINE, socket.MSG_PEEK)
    except BlockingIOError:
        return 1
    return max(1, data.find(b"\n") + 1)


async def _read(connection: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size:
        more = await loop.sock_recv(connection, size - len(data))
        if not more:
            raise ProxyHeaderError("it ended before its header of the PROXY protocol was complete")
        data += more
    return data
