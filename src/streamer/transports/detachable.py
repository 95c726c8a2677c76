"""A detachable transport: aiohttp answers HTTP on it, until another protocol takes the connection over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar


class ByteProtocol(Protocol):
    """Requirements of a protocol that takes a connection over, besides those of the event loop."""

    def data_received(self, data: bytes) -> None: ...


ProtocolT = TypeVar("ProtocolT", bound=ByteProtocol)


class DetachableTransport(asyncio.Transport):
    """Forwards everything to the connection's transport until `detach`; then it looks closed to its user.

    `request.transport` of aiohttp is one, so a handler can take the connection over with public methods only.
    """

    def __init__(self, transport: asyncio.Transport, take_over: Callable[[], bytes], address: str = "") -> None:
        """Wrap a transport.

        `take_over` ends the use of the connection for HTTP, and returns the bytes after the request. `address`: of the
        client, if a proxy connected for it; empty: the transport's own.
        """
        super().__init__()
        self._transport = transport
        self._address = address
        self._take_over: Callable[[], bytes] | None = take_over

    def detach(self, protocol_on: Callable[[Any], ProtocolT], first_bytes: bytes) -> ProtocolT:
        """Set a protocol on the connection, made by `protocol_on(transport)`, and write `first_bytes`.

        Raises ConnectionError if the connection is closed or detached already.
        """
        take_over, transport = self._take_over, self._transport
        if take_over is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._take_over = None
        early = take_over()
        transport.write(first_bytes)
        protocol = protocol_on(transport)
        transport.set_protocol(protocol)  # type: ignore[arg-type] # compiled classes inherit from no asyncio.Protocol
        transport.resume_reading()
        if early:
            protocol.data_received(early)  # which may pause reading again
        return protocol

    @property
    def _detached(self) -> bool:
        return self._take_over is None

    @property
    def unsent_bytes(self) -> int:
        """Unsent bytes. Over TLS, up to 64 KiB more may be encrypted already."""
        return self._transport.get_write_buffer_size()

    def abort_connection(self) -> None:
        """Close the connection immediately."""
        self._transport.abort()

    # Interface of its user, until it is detached ------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername" and self._address:
            return (self._address, 0)
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._detached or self._transport.is_closing()

    def close(self) -> None:
        if not self._detached:
            self._transport.close()

    def abort(self) -> None:
        if not self._detached:
            self._transport.abort()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._transport.get_protocol()

    def is_reading(self) -> bool:
        return not self._detached and self._transport.is_reading()

    def pause_reading(self) -> None:
        if not self._detached:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._detached:
            self._transport.resume_reading()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._detached:
            self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        if not self._detached:
            self._transport.writelines(list_of_data)

    def write_eof(self) -> None:
        if not self._detached:
            self._transport.write_eof()

    def can_write_eof(self) -> bool:
        return self._transport.can_write_eof()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._detached:
            self._transport.set_write_buffer_limits(high, low)
