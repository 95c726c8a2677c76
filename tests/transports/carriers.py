"""One client's words over each carrier: memory, WebSocket v2 and gRPC, to the same server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

from streamer.app import App, GrpcAvailability
from streamer.client.dialects import V2ClientCodec
from streamer.client.events import Ack, Event
from streamer.client.grpc_dialect import GrpcClientCodec
from streamer.client.grpc_transport import GrpcClientTransport, open_call
from streamer.client.transport import LOST, ClientCodec, ClientTransport, Closed, Request
from streamer.client.websocket_transport import WebSocketClientTransport, open_websocket
from streamer.config import Settings
from streamer.errors import StreamerError
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.messages import Audio, Start, Stop
from streamer.testing import MemoryClient, ScriptedEngine, memory_pair
from tests.connection.in_memory_server import RecordingObserver
from tests.transports.serving import scripted

CARRIERS = ("memory", "websocket", "grpc")
NORMAL = "normal"
LEFT = "left"
PATIENCE_S = 30.0
"""Nothing is expected to take a second, but on a machine that is busy with something else."""
MESSAGE = 16_000
"""Bytes of audio in one message."""

Frame = Any


@dataclass(slots=True)
class MemoryLink:
    """The client library's link over a pair in memory."""

    client: MemoryClient[str | bytes]
    is_cut: bool = False

    def cut(self) -> None:
        self.is_cut = True
        self.client.close()

    async def send_frame(self, frame: str | bytes) -> None:
        await self.client.send(frame)

    async def receive_frame(self) -> str | bytes | Closed:
        frame = await self.client.receive()
        if frame is not None:
            return frame
        goodbye = self.client.close_info
        if self.is_cut or goodbye is None or goodbye.aborted:
            return Closed(LOST)
        return Closed(1000) if goodbye.code is None else Closed(4000, goodbye.code)

    async def close(self) -> Closed:
        self.client.close()
        return Closed(1000)


@dataclass
class Peer:
    """A client in a scenario: says words, keeps what it hears."""

    server: App
    mode: Mode
    link: ClientTransport[Frame]
    dialect: ClientCodec[Frame]
    half_close: Callable[[], Awaitable[None]]
    """The last word: on gRPC the half-close, elsewhere `stop`, which is its counterpart."""
    cut: Callable[[], None]
    """Be gone."""
    heard: list[Event]
    end: str = ""

    @property
    def engine(self) -> ScriptedEngine:
        assert isinstance(self.server.engine, ScriptedEngine)
        return self.server.engine

    async def say(self, *requests: Request) -> None:
        for request in requests:
            match request:
                case Start() if isinstance(self.dialect, GrpcClientCodec):
                    await self._say(replace(request, mode=self.mode))
                case Audio(data):
                    for at in range(0, len(data), MESSAGE):
                        await self._say(Audio(data[at : at + MESSAGE]))
                case _:
                    await self._say(request)

    async def say_badly(self) -> None:
        """What is not of the protocol."""
        await self.link.send_frame(b"\xff" if isinstance(self.dialect, GrpcClientCodec) else "{")

    async def hear(self, kind: type[Event]) -> None:
        """Everything up to the next event of a kind."""
        while not isinstance(await self._next(), kind):
            assert not self.end, f"{self.end} while waiting for {kind.__name__}; heard {self.heard}"

    async def hear_the_end(self) -> None:
        while not self.end:
            await self._next()

    async def _say(self, request: Request) -> None:
        await self.link.send_frame(self.dialect.encode(request))

    async def _next(self) -> Event | None:
        async with asyncio.timeout(PATIENCE_S):
            frame = await self.link.receive_frame()
        if isinstance(frame, Closed):
            self.end = NORMAL if frame.code == 1000 else frame.reason if frame.code != LOST else LEFT
            return None
        event = self.dialect.decode(frame)
        if event is not None and not isinstance(event, Ack):  # how often it is told depends on how bytes arrive
            self.heard.append(event)
        return event


@dataclass
class ReceivedEvents:
    """How a scenario looked from both sides."""

    heard: list[Event]
    end: str
    notes: RecordingObserver


@asynccontextmanager
async def serving_all(**sections: Any) -> AsyncIterator[tuple[App, RecordingObserver]]:
    """A server that can be reached by every carrier, with the same limits; `sections` are settings."""
    notes = RecordingObserver()
    server = {"port": 0, **sections.pop("server", {})}
    grpc = {"port": -1, "max_message_bytes": 2**20, **sections.pop("grpc", {})}
    settings = Settings(server=server, grpc=grpc, **sections)
    async with App(settings, parts=scripted(), observers=[notes], grpc=GrpcAvailability.REQUIRED) as app:
        yield app, notes


@asynccontextmanager
async def calling(app: App, carrier: str, mode: Mode, *, deadline_s: float | None = None) -> AsyncIterator[Peer]:
    """A client of the server. A refusal is an end as any other.

    `deadline_s`: gRPC's own; the counterpart elsewhere is a client that goes when its time is up.
    """
    open_peer = {"memory": _memory, "websocket": _websocket, "grpc": _grpc}[carrier]
    async with AsyncExitStack() as stack:
        try:
            peer = await stack.enter_async_context(open_peer(app, mode, deadline_s))
        except StreamerError as refused:
            peer = _refused(app, mode, refused)
        if deadline_s is not None and carrier != "grpc":
            asyncio.get_running_loop().call_later(deadline_s, peer.cut)
        yield peer


@asynccontextmanager
async def _memory(app: App, mode: Mode, _: float | None) -> AsyncIterator[Peer]:
    app.admission.check()
    identity = await app.authenticator.verify(None)
    client, server = memory_pair()
    settings = app._session(mode)
    with app.admission.acquire("memory", identity):
        run = app.connections.run(server, V2Codec(mode, settings.model_sample_rate), settings, measure=len)
        running = asyncio.create_task(run)
        link = MemoryLink(client)
        yield _peer(app, mode, link, V2ClientCodec(), link.cut)
        client.close()
        await running


@asynccontextmanager
async def _websocket(app: App, mode: Mode, _: float | None) -> AsyncIterator[Peer]:
    url = f"{app.url}/api/v2/{mode}"
    async with open_websocket(url, dialect="v2", token=None) as link:

        def cut() -> None:
            connection = link._socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()

        yield _peer(app, mode, link, V2ClientCodec(), cut)


@asynccontextmanager
async def _grpc(app: App, mode: Mode, deadline_s: float | None) -> AsyncIterator[Peer]:
    assert app.grpc_url is not None
    async with open_call(app.grpc_url, token=None, deadline_s=deadline_s) as link:
        yield _peer(app, mode, link, GrpcClientCodec(), link._call.cancel, link._call.done_writing)


def _peer(
    app: App,
    mode: Mode,
    link: MemoryLink | WebSocketClientTransport | GrpcClientTransport,
    dialect: Any,
    cut: Callable[[], Any],
    half_close: Callable[[], Awaitable[None]] | None = None,
) -> Peer:
    async def stop() -> None:
        await peer.say(Stop())

    peer = Peer(app, mode, cast("ClientTransport[Frame]", link), dialect, half_close or stop, cut, [])
    return peer


def _refused(app: App, mode: Mode, refused: StreamerError) -> Peer:
    nobody = cast("Any", None)
    return Peer(app, mode, nobody, nobody, nobody, nobody, [], f"refused: {refused.code}")
