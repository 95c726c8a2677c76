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
from streamer.errors import ErrorCode
from streamer.protocols.codec import Codec
from streamer.runtime.driver import Connection
from streamer.runtime.hosted_model import HostedModel
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
        self._live: set[Connection[Any]] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._deadline: float | None = None

    def __len__(self) -> int:
        """Return the number of running connections."""
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
            handshake or Handshake(),
            model.name if model is not None else "",
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
        """Tell all clients, also new ones, that the server shuts down in `deadline_s`."""
        self._deadline = self.services.clock.now() + deadline_s
        for connection in tuple(self._live):
            connection.drain(deadline_s)

    async def finish(self, spread_s: float) -> None:
        """Finish every stream, spread over `spread_s` seconds so that clients do not all reconnect at once.

        Each has its own time, so an event loop that is late catches up.
        """
        connections = list(self._live)
        random.shuffle(connections)  # no client is always the first
        began = self.services.clock.now()
        for index, connection in enumerate(connections):
            await self._until(began + spread_s * index / len(connections))
            await self.services.turns.take()
            connection.finish()

    def paused(self) -> None:
        """Restart the silence time-outs of all clients after a pause of the process."""
        for connection in tuple(self._live):
            connection.paused()

    def expel(self, code: ErrorCode, text: str) -> None:
        """Close every session with this error."""
        for connection in tuple(self._live):
            connection.expel(code, text)

    def abort(self) -> int:
        """Abort all remaining connections; return their number."""
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
