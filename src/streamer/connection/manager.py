"""The connections of a server: runs, drains and closes them."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from streamer.access import Lease
from streamer.connection.connection import Connection
from streamer.connection.hosted_model import HostedModel
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.connection.transport import Transport
from streamer.errors import ErrorCode
from streamer.protocols.codec import Codec
from streamer.session.session import Session
from streamer.session.settings import SessionSettings
from streamer.session.summary import Summary
from streamer.telemetry.observer import HandshakeInfo, SessionInfo, Subsystem

FrameT = TypeVar("FrameT")

log = logging.getLogger(__name__)


class ConnectionManager:
    """Runs connections. The caller acquires a slot for a connection first."""

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
        self._connections: set[Connection[Any]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._deadline: float | None = None

    def __len__(self) -> int:
        """Return the number of running connections."""
        return len(self._connections)

    async def run(
        self,
        transport: Transport[FrameT],
        codec: Codec[FrameT],
        settings: SessionSettings,
        *,
        measure: Callable[[FrameT], int],
        handshake: HandshakeInfo | None = None,
        lease: Lease | None = None,
        model: HostedModel | None = None,
    ) -> Summary:
        """Run one connection from its first frame to its end, or to the end of its `lease`. Return its summary.

        `measure`: returns the bytes of a queued frame. `model`: one of several models; None for the only one.
        """
        services = self.services
        if model is not None:
            services, settings = replace(services, engine=model), model.applied_to(settings)
        now = services.clock.now()
        session = Session(settings, self._new_id(), now, services.memory)
        info = SessionInfo(
            session.id,
            transport.name,
            codec.name,
            settings.mode,
            transport.peer,
            handshake or HandshakeInfo(),
            model.name if model is not None else "",
        )
        connection = Connection(
            session, transport, codec, services, info, bounds=self._bounds, measure=measure, lease=lease
        )
        self._connections.add(connection)
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
                services.observer.unexpected_error(Subsystem.CLIENT, error)
        finally:
            session.load.memory.update(0)
            self._connections.discard(connection)
            if not self._connections:
                self._empty.set()
        return connection.summary

    def drain(self, deadline_s: float) -> None:
        """Tell all clients, also new ones, that the server shuts down in `deadline_s`."""
        self._deadline = self.services.clock.now() + deadline_s
        for connection in tuple(self._connections):
            connection.drain(deadline_s)

    async def finish(self, spread_s: float) -> None:
        """Finish every stream, spread over `spread_s` seconds so that clients do not all reconnect at once.

        Each has its own time, so an event loop that is late catches up.
        """
        connections = list(self._connections)
        random.shuffle(connections)  # no client is always the first
        started_at = self.services.clock.now()
        for index, connection in enumerate(connections):
            await self._sleep_until(started_at + spread_s * index / len(connections))
            await self.services.throttle.acquire()
            connection.finish()

    def on_process_paused(self) -> None:
        """Restart the silence time-outs of all clients after a pause of the process."""
        for connection in tuple(self._connections):
            connection.on_process_paused()

    def close_all(self, code: ErrorCode, text: str) -> None:
        """Close every session with this error."""
        for connection in tuple(self._connections):
            connection.close_with_error(code, text)

    def abort(self) -> int:
        """Abort all remaining connections; return their number."""
        for connection in tuple(self._connections):
            connection.abort()
        return len(self._connections)

    async def _sleep_until(self, when: float) -> None:
        clock = self.services.clock
        if clock.now() >= when:
            return
        event = asyncio.Event()
        timer = clock.call_at(when, event.set)
        try:
            await event.wait()
        finally:
            timer.cancel()

    async def wait_empty(self) -> None:
        """Wait until no connection is left."""
        await self._empty.wait()
