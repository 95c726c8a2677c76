"""One real server, a fault, a healthy session beside it, and a count of everything before and after."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc.aio
import pytest
from prometheus_client.samples import Sample

from streamer.app import App
from streamer.client.grpc_transport import METHOD
from streamer.errors import ErrorCode
from streamer.testing import s16le, speech
from tests.faults.fault import NORMAL, Fault, harmless
from tests.faults.peers import (
    DIALECTS,
    FORMAT,
    SECOND,
    START,
    STOP,
    TRANSPORTS,
    WAYS,
    CallPeer,
    Events,
    Peer,
    SocketPeer,
)
from tests.faults.raw import Raw, raw
from tests.faults.sight import FaultObservation, Line, Log, RecordingObserver

__all__ = [
    "DIALECTS",
    "FORMAT",
    "SECOND",
    "START",
    "STOP",
    "WAYS",
    "WEATHER",
    "Arena",
    "Events",
    "LocalArena",
    "by_kind",
    "reset",
]

WEATHER = s16le(speech())
KEEPALIVE = {"type": "keepalive"}
KEEPALIVE_S = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server holds; after a fault it must be what it was before."""

    sessions: int
    places: int
    scorer_rows: int
    engine_items: int
    workers_busy: int
    audio_bytes: int
    tasks: int
    descriptors: int

    def more_than(self, before: Counts) -> dict[str, tuple[int, int]]:
        """What there is more of: by name, how many before and how many now."""
        pairs = {name: (getattr(before, name), getattr(self, name)) for name in Counts.__dataclass_fields__}
        return {name: (then, now) for name, (then, now) in pairs.items() if now > then}


class Arena(ABC):
    """A server under test, and all that is seen of it. Subclasses say where it runs."""

    neighbour = harmless(received_s=round(len(WEATHER) / 32_000, 4))
    """What is seen of the healthy session."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: what every client sends that is not told otherwise."""
        self.headers = headers or {}
        self.sight = FaultObservation(self)
        self.alone: dict[str, Events] = {}

    # What is seen -------------------------------------------------------------------------------

    @abstractmethod
    def port_of(self, way: str) -> int:
        """Where it listens, on 127.0.0.1."""

    @abstractmethod
    async def samples(self) -> Iterable[Sample]:
        """What /metrics says."""

    @abstractmethod
    def records(self) -> Sequence[Line]:
        """The log so far."""

    @abstractmethod
    async def settled(self) -> Any:
        """What the server holds, once that holds still."""

    @abstractmethod
    async def counts_back_at(self, before: Any) -> None:
        """Nothing leaked; sockets may take a moment to be gone."""

    async def listen_alone(self) -> None:
        """Learn what a session hears when nothing is wrong; what is opened once, and for all, is open then."""
        await self.sight.begin()
        for way in TRANSPORTS:
            async with self.healthy_session(way):
                pass
        await self.sight.comes(self.neighbour * len(TRANSPORTS))

    @asynccontextmanager
    async def observed(self, item: pytest.Item) -> AsyncIterator[None]:
        """Around a fault: a healthy session that must not notice, nothing left behind, and what its test declares (see
        `fault`) is seen of it: no more, no less."""
        row, expected, params = declared(item)
        before = await self.settled()
        await self.sight.begin()
        async with self.healthy_session("grpc" if params.get("way") == "grpc" else "v2"):
            yield
        await self.counts_back_at(before)
        await self.sight.shows(expected + self.neighbour)
        item.user_properties.append(self.sight.summed_up(less=self.neighbour).to_property(row))

    # Who connects -------------------------------------------------------------------------------

    def peer(self, way: str, mode: str = "simple", **options: Any) -> AbstractAsyncContextManager[Peer]:
        """A client over `v1`, `v2` or `grpc`; `port`: a proxy's; other options are aiohttp's or gRPC's."""
        return self.call(mode, **options) if way == "grpc" else self.socket(way, mode, **options)

    @asynccontextmanager
    async def socket(
        self, way: str, mode: str = "simple", *, query: str = "", port: int | None = None, **options: Any
    ) -> AsyncIterator[SocketPeer]:
        url = f"http://127.0.0.1:{port or self.port_of(way)}/api/{way}/{mode}{query}"
        options = {"headers": self.headers, "max_msg_size": 0} | options
        async with aiohttp.ClientSession() as http, http.ws_connect(url, **options) as connection:
            yield SocketPeer(way, self.sight, connection)

    @asynccontextmanager
    async def call(
        self, mode: str = "simple", *, headers: Mapping[str, str] | None = None, port: int | None = None, **options: Any
    ) -> AsyncIterator[CallPeer]:
        metadata = [(name.lower(), value) for name, value in (self.headers if headers is None else headers).items()]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port or self.port_of('grpc')}") as channel:
            peer = CallPeer(self.sight, channel.stream_stream(METHOD)(metadata=metadata, **options), mode)
            try:
                await peer.call.initial_metadata()  # the server's word: somebody listens, or not
                yield peer
            finally:
                peer.call.cancel()
                del peer.call  # it holds the connection

    async def refuses(self, way: str, code: ErrorCode, status: int, **options: Any) -> None:
        """Nobody is let in: over WebSocket the handshake is answered with this status, over gRPC the call with the
        status of the code."""
        if way == "grpc":
            async with self.call(**options) as peer:
                assert await peer.receive() == code
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
                async with self.socket(way, **options):
                    pass
            assert raised.value.status == status

    @asynccontextmanager
    async def healthy_session(self, way: str = "v2") -> AsyncIterator[None]:
        """A session that has begun before the fault and goes on after it, and must hear what it would hear alone.

        Its first utterance is answered before the fault, its second begins after: a call that is under way while both
        of its workers are killed would be given up, whoever asked for it.
        """
        heard: Events = []
        async with self.peer(way, "segmented") as peer:
            half = len(WEATHER) // 2
            await peer.start()
            await peer.hear("started")
            await peer.audio(WEATHER[:half])
            while not heard or heard[-1]["type"] != "segment":
                heard.append(await peer.hear())
            over = asyncio.Event()
            lives = asyncio.create_task(_lives(peer, over))
            try:
                yield
            finally:
                over.set()
                await lives
            await peer.audio(WEATHER[half:])
            await peer.stop()
            heard += await peer.rest()
            assert peer.end == NORMAL
        self.alone = self.alone or by_kind(heard)
        assert len(self.alone["segment"]) == 2
        assert by_kind(heard) == self.alone


class LocalArena(Arena):
    """A server in this process: nothing of it is hidden."""

    def __init__(
        self, app: App, headers: Mapping[str, str] | None = None, told: RecordingObserver | None = None
    ) -> None:
        """`told`: listens to the server."""
        super().__init__(headers)
        self.app = app
        self.told = told or RecordingObserver()
        self.log = Log()

    def port_of(self, way: str) -> int:
        port = self.app.grpc_port if way == "grpc" else self.app.port
        assert port is not None
        return port

    async def samples(self) -> Iterable[Sample]:
        return [sample for metric in self.app.registry.collect() for sample in metric.samples]

    def records(self) -> Sequence[Line]:
        return self.log.lines

    def counts(self) -> Counts:
        depth = self.app.engine.depth
        buffered = self.app.registry.get_sample_value("streamer_audio_buffered_bytes")
        return Counts(
            sessions=len(self.app.connections),
            places=self.app.admission.active,
            scorer_rows=self.app.scoring.stats.rows,
            engine_items=depth.pending_items + depth.running_items,
            workers_busy=depth.workers_busy,
            audio_bytes=round(buffered or 0),
            tasks=len(asyncio.all_tasks()),
            descriptors=len(os.listdir("/proc/self/fd")),
        )

    async def settled(self) -> Counts:
        """The counts once they hold still: what came before may still be closing, or wait for the collector."""
        gc.collect()
        counts, still = self.counts(), 0
        while still < 4:
            await asyncio.sleep(0.005)
            before, counts = counts, self.counts()
            still = still + 1 if counts == before else 0
        self.told.codes.clear()
        return counts

    async def counts_back_at(self, before: Counts) -> None:
        """Wait until no more is held than before. Less may be: what came before it may have closed late."""
        for _ in range(1_000):
            if not self.counts().more_than(before):
                return
            await asyncio.sleep(0.01)
        assert not self.counts().more_than(before)

    @asynccontextmanager
    async def raw(self, *, port: int | None = None, **options: Any) -> AsyncIterator[Raw]:
        """A client that frames by hand."""
        async with raw(port or self.app.port, heard=self.sight.heard, ended=self.sight.ends.append, **options) as peer:
            yield peer

    async def until_only_the_neighbour_is_left(self) -> None:
        async with asyncio.timeout(10):
            while len(self.app.connections) > 1:
                await asyncio.sleep(0.01)


def declared(item: pytest.Item) -> tuple[int, Fault, dict[str, Any]]:
    """The row of a test, what is to be seen of it, and its parameters."""
    [marker] = item.iter_markers("fault")
    params = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    row, seen = marker.args
    return row, seen if isinstance(seen, Fault) else seen(params), params


async def _lives(peer: Peer, over: asyncio.Event) -> None:
    """Say that it lives until the fault of another is over. Not cancelled: gRPC would take that for the call's end."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEPALIVE_S):
                await over.wait()
                return
        await peer.say(KEEPALIVE)


def by_kind(heard: Events) -> dict[str, Events]:
    """Events in their order among their kind: how long the model takes decides what comes between a speech's end and
    its final."""
    kinds: dict[str, Events] = {}
    for event in heard:
        kinds.setdefault(event["type"], []).append({key: value for key, value in event.items() if key != "session_id"})
    return kinds


def reset(peer: socket.socket) -> None:
    """Close with RST instead of FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    peer.close()
