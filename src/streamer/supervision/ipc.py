"""Messages between a supervisor and one of its server processes, over a private socket pair."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Generic, Self, TypeVar

import msgspec

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Limit of a message; a longer one is a bug."""
_LENGTH_BYTES = 4


class WorkerSettings(msgspec.Struct, frozen=True, tag=True):
    """First message to a process: the settings to serve."""

    settings: bytes
    """JSON of all settings, with resolved ports."""
    origins: dict[str, str]
    """Source of each key (dotted), for error messages."""
    replay_table: int
    """Descriptor of the shared table of `replay_table`; inherited."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Drain the sessions, then exit. Has no effect on a process that is draining already."""

    lag: bool
    """Accept new sessions for a while, until load balancers have noticed."""


class End(msgspec.Struct, frozen=True, tag=True):
    """Exit immediately."""


class CollectMetrics(msgspec.Struct, frozen=True, tag=True):
    """Request the metrics of the process, and check that it is alive."""


class MetricsTotals(msgspec.Struct, frozen=True, tag=True):
    """Metrics of all processes, in answer to Gather; None if they cannot be merged."""

    metrics: bytes | None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process is serving: its URLs and its model (`sample_rate` in Hz).

    `models`: names of several models, of which `model` is the default; empty for one model. `dialects`: protocols of
    other services that it serves, with the port of each that has one of its own, such as `wyoming (port 10300)`.
    """

    url: str
    grpc_url: str | None
    model: str
    sample_rate: int
    models: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """The process could not start and exits. `detail`: the traceback of the model author's code, if any."""

    message: str
    detail: str = ""


class MetricsCollected(msgspec.Struct, frozen=True, tag=True):
    """Metrics of the process since its start, in answer to Report; opaque here."""

    metrics: bytes


class RequestTotals(msgspec.Struct, frozen=True, tag=True):
    """Request the metrics of all processes. Not repeated before the answer."""


Command = WorkerSettings | Drain | End | CollectMetrics | MetricsTotals
"""Messages to a process."""
Notification = Ready | StartFailed | MetricsCollected | RequestTotals
"""Messages to the supervisor."""

MessageT = TypeVar("MessageT")


class IpcConnection(Generic[MessageT]):
    """One end of the socket pair. A message is its length and msgpack."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.msgpack.Decoder[MessageT]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    @classmethod
    async def from_socket(cls, end: socket.socket, decoder: msgspec.msgpack.Decoder[MessageT]) -> Self:
        """Create a link that owns the socket."""
        return cls(*await asyncio.open_unix_connection(sock=end), decoder)

    def send(self, message: Command | Notification) -> None:
        """Send a message without waiting. It is lost if the other side has exited, which `receive` reports."""
        if not self._writer.is_closing():
            encoded = msgspec.msgpack.encode(message)
            self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)

    async def receive(self) -> MessageT | None:
        """Return the next message; None if the other side has exited."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MAX_MESSAGE_BYTES:
                raise RuntimeError(f"a message of {length} bytes exceeds the limit of {MAX_MESSAGE_BYTES}")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Close the link after sending pending messages."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


COMMAND_DECODER: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
"""Decoder of the process."""
NOTIFICATION_DECODER: msgspec.msgpack.Decoder[Notification] = msgspec.msgpack.Decoder(Notification)
"""Decoder of the supervisor."""
