"""All connections of a server: each is run here, told of a drain here, and finished here."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from streamer.access import Lease
from streamer.errors import ErrorCode
from streamer.protocols.codec import Codec
from streamer.runtime.driver import Connection
from streamer.runtime.outbox import OutboxBounds
from streamer.runtime.services import Services
from streamer.runtime.transport import Transport
from streamer.session.session import Session
from streamer.session.settings import SessionSettings
from streamer.session.summary import Summary
from streamer.telemetry.observer import Handshake, SessionInfo, Subsystem

FrameT = TypeVar("FrameT")

log = logging.getLogger(__name__)


class Conductor:
    """Runs connections. Whoever accepts one has taken a place for it first."""

    def __init__(
        self,
        services: Services,
        bounds: OutboxBounds,
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.services = services
        self._bounds = bounds
        self._new_id = new_id
        self._live: set[Connection[Any]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._deadline: float | None = None

    def __len__(self) -> int:
        """Connections that run."""
        return len(self._live)

    async def run(
        self,
        transport: Transport[FrameT],
        codec: Codec[FrameT],
        settings: SessionSettings,
        *,
        measure: Callable[[FrameT], int],
        handshake: Handshake | None = None,
        lease: Lease | None = None,
    ) -> Summary:
        """One connection from its first frame to its end, or to that of its `lease`. Returns what came of it.

        `measure`: the bytes of a frame that waits to be sent.
        """
        services = self.services
        now = services.clock.now()
        session = Session(settings, self._new_id(), now, services.memory)
        info = SessionInfo(
            session.id, transport.name, codec.name, settings.mode, transport.peer, handshake or Handshake()
        )
        connection = Connection(
            session, transport, codec, services, info, bounds=self._bounds, measure=measure, lease=lease
        )
        self._live.add(connection)
        self._empty.clear()
        try:
            if self._deadline is not None:
                connection.drain(max(0.0, self._deadline - now))
            with services.addresses.connected(transport.peer):
                await connection.run()
        except* Exception as errors:
            for error in errors.exceptions:
                ids = {"session_id": session.id}
                log.error("connection of session %s failed", session.id, exc_info=error, extra=ids)
                services.observer.broken(Subsystem.CLIENT, error)
        finally:
            session.load.memory.update(0)
            self._live.discard(connection)
            if not self._live:
                self._empty.set()
        return connection.summary

    def drain(self, deadline_s: float) -> None:
        """Tell all clients, and those who still come, that the server goes away in `deadline_s`."""
        self._deadline = self.services.clock.now() + deadline_s
        for connection in tuple(self._live):
            connection.drain(deadline_s)

    async def finish(self, spread_s: float) -> None:
        """End every stream as if stopped, spread over so many seconds so that clients do not come back all at once.

        Each has a time of its own: an overloaded loop that comes round late makes up for it.
        """
        connections = list(self._live)
        random.shuffle(connections)  # no client is always the first
        began = self.services.clock.now()
        for index, connection in enumerate(connections):
            await self._until(began + spread_s * index / len(connections))
            await self.services.turns.take()
            connection.finish()

    def paused(self) -> None:
        """Forgive all clients their silence: the process stood still and could not hear them."""
        for connection in tuple(self._live):
            connection.paused()

    def expel(self, code: ErrorCode, text: str) -> None:
        """End every session with this fault."""
        for connection in tuple(self._live):
            connection.expel(code, text)

    def abort(self) -> int:
        """Cut off whoever is left; returns how many."""
        for connection in tuple(self._live):
            connection.abort()
        return len(self._live)

    async def _until(self, when: float) -> None:
        clock = self.services.clock
        if clock.now() >= when:
            return
        come = asyncio.Event()
        timer = clock.call_at(when, come.set)
        try:
            await come.wait()
        finally:
            timer.cancel()

    async def ended(self) -> None:
        """Wait until no connection is left."""
        await self._empty.wait()
