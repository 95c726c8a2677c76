"""What a supervisor and one of its serving processes tell each other, over a socket pair that nobody else has."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Generic, Self, TypeVar

import msgspec

MAX_WORD_BYTES = 16 * 1024 * 1024
"""A longer word is a fault of the program."""
_LENGTH_BYTES = 4


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first word to a process: what it is to serve."""

    settings: bytes
    """JSON of all settings, in which the ports are known."""
    origins: dict[str, str]
    """Who set a key (dotted), for messages about a wrong one."""
    used_tokens: int
    """The descriptor of a table, see `used_tokens`; inherited."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """See the sessions out, then end. To a process that is about it already it changes nothing."""

    lag: bool
    """Take new sessions for a while, until load balancers have noticed."""


class End(msgspec.Struct, frozen=True, tag=True):
    """End now."""


class Report(msgspec.Struct, frozen=True, tag=True):
    """Say what you have counted. Whoever does not answer for long is taken for hung."""


class Gathered(msgspec.Struct, frozen=True, tag=True):
    """The counts of all processes, in answer to Gather; None if they cannot be merged."""

    counts: bytes | None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process serves: where, and what (`sample_rate` in Hz)."""

    url: str
    grpc_url: str | None
    model: str
    sample_rate: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process could not start, and why; its end follows."""

    message: str


class Reported(msgspec.Struct, frozen=True, tag=True):
    """What the process has counted since its start, in answer to Report; opaque here."""

    counts: bytes


class Gather(msgspec.Struct, frozen=True, tag=True):
    """Somebody asks the process for the counts of all. Not said again before the answer."""


Order = Setup | Drain | End | Report | Gathered
"""Words to a process."""
Answer = Ready | Failed | Reported | Gather
"""Words to the supervisor."""

HeardT = TypeVar("HeardT")


class Link(Generic[HeardT]):
    """One end of the pair. Words are msgpack after their length."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: msgspec.msgpack.Decoder[HeardT]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder

    @classmethod
    async def over(cls, end: socket.socket, decoder: msgspec.msgpack.Decoder[HeardT]) -> Self:
        """The socket belongs to the link from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end), decoder)

    def tell(self, word: Order | Answer) -> None:
        """Never waits. Said to somebody who is gone it is lost; the end of `hear` tells that."""
        if not self._writer.is_closing():
            encoded = msgspec.msgpack.encode(word)
            self._writer.write(len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded)

    async def hear(self) -> HeardT | None:
        """The next word; None when the other side is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES), "big")
            if length > MAX_WORD_BYTES:
                raise RuntimeError(f"a message of {length} bytes exceeds the limit of {MAX_WORD_BYTES}")
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> None:
        """Let go, once what was told is on its way."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


ORDERS: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
"""What a process hears with."""
ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
"""What a supervisor hears with."""
