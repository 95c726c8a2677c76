"""A port of a protocol that is not spoken over HTTP: who may connect, how many at a time, and a task for each."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from streamer.access.peers import PRIVATE_NETWORKS, Peers
from streamer.connection.admission import network_of
from streamer.connection.meter import Meter
from streamer.connection.services import Services
from streamer.errors import ErrorCode, brief
from streamer.telemetry.observer import Subsystem
from streamer.transports.accepting import accept, listening_sockets
from streamer.transports.tcp import NewFraming, TcpTransport

FrameT = TypeVar("FrameT")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """Limits of the connections of one port. One more is closed at once."""

    max_connections: int = 100
    max_per_address: float = math.inf
    """Of one IPv4 address or one IPv6 /64."""
    close_timeout_s: float = 5.0
    peers: Peers = field(default_factory=lambda: Peers(PRIVATE_NETWORKS, field="peers"))


class TcpListener(Generic[FrameT]):
    """Serves one port, from `start` to `stop`.

    `serve` converses on a connection and returns the seconds of audio that came of it. The time that this takes is
    charged to the address.
    """

    def __init__(
        self,
        port: int,
        new_framing: NewFraming[FrameT],
        serve: Callable[[TcpTransport[FrameT]], Awaitable[float]],
        limits: TcpLimits,
        services: Services,
        *,
        shared: bool = False,
    ) -> None:
        """Create a listener. `port`: 0 for a free one. `shared`: other processes listen on the port as well."""
        self._port = port
        self._new_framing = new_framing
        self._serve = serve
        self._limits = limits
        self._addresses = services.addresses
        self._observer = services.observer
        self._memory = services.memory
        self._shared = shared
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._of_network: Counter[str] = Counter()

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._connections)

    async def start(self, host: str) -> int:
        """Listen; return the port. Raises ListenFailed."""
        self._sockets = await listening_sockets(host, self._port, shared=self._shared)
        self._accepting = [asyncio.create_task(accept(each, self._admit), name="accept") for each in self._sockets]
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def stop(self, timeout_s: float) -> None:
        """Stop accepting, wait for the connections, and cancel those that do not end within `timeout_s`."""
        for accepting in self._accepting:
            accepting.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        self._accepting.clear()
        while self._sockets:
            self._sockets.pop().close()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _admit(self, connection: socket.socket, address: str) -> None:
        """Serve a connection, or close it."""
        refusal = self._refusal(address)
        if refusal is not None:
            self._observer.on_refused(TcpTransport.name, refusal, address)
            connection.close()
            return
        network = network_of(address)
        self._of_network[network] += 1
        task = asyncio.create_task(self._run(connection, address), name="tcp-connection")
        self._connections.add(task)
        task.add_done_callback(lambda task: self._ended(task, network))

    def _refusal(self, address: str) -> ErrorCode | None:
        if not self._limits.peers.allows(address):
            log.warning("a connection from %s was refused: its network is not among the peers", brief(address))
            return ErrorCode.FORBIDDEN
        if self._addresses.wait_s(address) > 0:
            return ErrorCode.RATE_LIMITED
        is_full = len(self._connections) >= self._limits.max_connections
        if is_full or self._of_network[network_of(address)] >= self._limits.max_per_address:
            return ErrorCode.OVERLOADED
        return None

    def _ended(self, task: asyncio.Task[None], network: str) -> None:
        self._connections.discard(task)
        self._of_network[network] -= 1
        if not self._of_network[network]:
            del self._of_network[network]
        if not task.cancelled():
            task.exception()  # it was logged

    async def _run(self, connection: socket.socket, address: str) -> None:
        transport = TcpTransport(address, self._new_framing(), self._limits.close_timeout_s, self._memory)
        meter, audio_s = Meter(self._addresses.clock.cpu), 0.0

        async def converse() -> float:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: transport, connection)
            return await self._serve(transport)

        try:
            audio_s = await meter.run(converse())
            await transport.close(None)  # to abort it now would reset it, and take answers from the client
        except OSError as error:  # the client disconnected
            log.debug("connection from %s ended: %s", address, error)
        except Exception as error:
            log.exception("a connection from %s failed", address)
            self._observer.unexpected_error(Subsystem.CLIENT, error)
        finally:
            transport.abort()
            self._addresses.charge_session(address, meter.spent_s, audio_s)
