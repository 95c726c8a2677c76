"""A server without a socket, in the process of a command: the same engine, detector and session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from streamer.client.dialects import V2ClientCodec
from streamer.client.stream import Stream
from streamer.client.transport import LOST, NORMAL, Closed
from streamer.config import Settings
from streamer.connection.manager import ConnectionManager
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.parts import AppParts, build
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.messages import Start
from streamer.session.settings import SessionSettings
from streamer.transports.memory import MemoryClient, memory_pair

_MAX_STREAM_S = 48 * 3600.0
_STOP_S = 5.0


class _InProcessTransport:
    """A `client.transport.ClientTransport` to a connection manager in this process."""

    def __init__(self, client: MemoryClient[str | bytes]) -> None:
        self._client = client

    async def send_frame(self, frame: str | bytes) -> None:
        await self._client.send(frame)

    async def receive_frame(self) -> str | bytes | Closed:
        frame = await self._client.receive()
        return self._closed() if frame is None else frame

    def has_peer_disconnected(self) -> bool:
        return self._client.close_info is not None

    async def close(self) -> Closed:
        self._client.close()
        return self._closed()

    def _closed(self) -> Closed:
        goodbye = self._client.close_info
        if goodbye is None or goodbye.aborted or goodbye.code is not None:
            return Closed(LOST, goodbye.reason if goodbye else "")
        return Closed(NORMAL, goodbye.reason)


@dataclass(frozen=True, slots=True)
class Local:
    """A model that is loaded and answers streams of this process."""

    parts: AppParts
    connections: ConnectionManager
    session: SessionSettings

    @asynccontextmanager
    async def stream(self, start: Start) -> AsyncIterator[Stream]:
        """Open one stream, as `streamer.connect` does over a network."""
        client, server = memory_pair()
        codec = V2Codec(self.session.mode, self.parts.model.sample_rate)
        running = asyncio.create_task(self.connections.run(server, codec, self.session, measure=len))
        try:
            async with Stream.on_transport(_InProcessTransport(client), V2ClientCodec()) as stream:
                await stream.start(start)
                yield stream
        finally:
            client.close()
            with suppress(asyncio.CancelledError):
                await running


@asynccontextmanager
async def serving_here(settings: Settings) -> AsyncIterator[Local]:
    """Load the model of these settings (of several, the default) and run it in this process.

    Raises ModelLoadError or ConfigError.
    """
    settings = settings.model_copy(update={"limits": replace(settings.limits, max_stream_s=_MAX_STREAM_S)})
    parts = build(settings)
    model = parts.model
    session = settings.for_session(
        Mode.SEGMENTED,
        model=model.name,
        sample_rate=model.sample_rate,
        stateful=model.stateful,
        max_inflight=model.max_inflight,
    )
    assert parts.clock is not None
    parts.clock.start()
    connections = ConnectionManager(Services(parts.scoring, parts.engine, clock=parts.clock), OutboxBounds())
    try:
        await parts.scoring.start()
        await (parts.engine.start() if parts.models is None else parts.models.default.load())
        yield Local(parts, connections, session)
    finally:
        connections.abort()
        await parts.backend.stop(_STOP_S)
        await parts.scoring.stop()
        parts.clock.stop()
