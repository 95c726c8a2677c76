"""One real server, a fault, a healthy session beside it, and a count of everything before and after."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from streamer.app import App
from streamer.testing import s16le, speech

FORMAT = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}
V1_FORMAT = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False}
START = {"v1": {"request": "start", "format": V1_FORMAT}, "v2": {"type": "start", "format": FORMAT}}
STOP = {"v1": {"request": "stop", "disconnect": True}, "v2": {"type": "stop"}}
DIALECTS = ("v1", "v2")
SECOND = b"\0\0" * 16_000
WEATHER = s16le(speech())

Events = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server holds; after a fault it must be what it was before."""

    sessions: int
    places: int
    scorer_rows: int
    engine_items: int
    tasks: int
    descriptors: int


class Peer:
    """A client that says what it likes."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, dialect: str) -> None:
        self.socket = socket
        self.dialect = dialect

    async def start(self, **changed: Any) -> None:
        """A start that is right but for what is changed."""
        await self.socket.send_json(START[self.dialect] | changed)

    async def start_format(self, **changed: Any) -> None:
        await self.start(format=START[self.dialect]["format"] | changed)  # type: ignore[operator]

    async def stop(self) -> None:
        await self.socket.send_json(STOP[self.dialect])

    async def audio(self, data: bytes = SECOND, cut: int = 3_200) -> None:
        for at in range(0, len(data), cut):
            await self.socket.send_bytes(data[at : at + cut])

    async def text(self, data: str) -> None:
        await self.socket.send_str(data)

    async def hear(self) -> dict[str, Any]:
        """The next event, without those that only count."""
        while True:
            event: dict[str, Any] = await self.socket.receive_json(timeout=10)
            if event["type"] not in ("ack", "started"):
                return event

    async def rest(self) -> Events:
        """Everything until the server closes."""
        async with asyncio.timeout(20):
            heard = [message.json() async for message in self.socket]
        return [event for event in heard if event["type"] != "ack"]

    async def still_works(self) -> None:
        """The connection stays, and a stream on it is answered to the last sample."""
        await self.start()
        await self.audio()
        await self.stop()
        heard = await self.rest()
        assert not [event for event in heard if event["type"] == "error"]
        assert self.socket.close_code == 1000
        counts = [event.get("count") or event["output"]["count"] for event in heard if "start_time" in event]
        assert sum(counts) == 16_000

    async def closed_after_error(self, code: str, close_code: int) -> dict[str, Any]:
        """The last event is a fatal error; the close that follows has its code, and its name as the reason."""
        heard = await self.rest()
        error = heard[-1]
        assert (error["type"], error["code"], error["fatal"]) == ("error", code, True), heard
        assert self.socket.close_code == close_code
        return error


class Arena:
    """The server under test."""

    def __init__(self, app: App, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: what every client sends that is not told otherwise."""
        self.app = app
        self.headers = headers or {}
        self.heartbeat: float | None = None
        """How often the healthy session says that it lives; half of it is how long it waits for the answer."""
        self.alone: dict[str, Events] = {}

    def counts(self) -> Counts:
        depth = self.app.engine.depth
        return Counts(
            sessions=len(self.app.conductor),
            places=self.app.admission.active,
            scorer_rows=self.app.scoring.stats.rows,
            engine_items=depth.pending_items + depth.running_items,
            tasks=len(asyncio.all_tasks()),
            descriptors=len(os.listdir("/proc/self/fd")),
        )

    async def settled(self) -> Counts:
        """The counts once they hold still: what came before may still be closing, or wait for the collector."""
        gc.collect()
        counts, still = self.counts(), 0
        while still < 5:
            await asyncio.sleep(0.01)
            before, counts = counts, self.counts()
            still = still + 1 if counts == before else 0
        return counts

    async def counts_back_at(self, before: Counts) -> None:
        """Nothing leaked; sockets may take a moment to be gone."""
        for _ in range(1_000):
            if self.counts() == before:
                return
            await asyncio.sleep(0.01)
        now = self.counts()
        assert now == before

    @asynccontextmanager
    async def peer(self, dialect: str, mode: str = "simple", *, query: str = "", **options: Any) -> AsyncIterator[Peer]:
        """`options`: of aiohttp's ws_connect."""
        url = f"{self.app.url}/api/{dialect}/{mode}{query}"
        options = {"headers": self.headers, "max_msg_size": 0} | options
        async with aiohttp.ClientSession() as http, http.ws_connect(url, **options) as socket:
            yield Peer(socket, dialect)

    @asynccontextmanager
    async def healthy_session(self) -> AsyncIterator[None]:
        """A session that has begun before the fault and goes on after it, and must hear what it would hear alone."""
        async with self.peer("v2", "segmented", heartbeat=self.heartbeat) as peer:
            half = len(WEATHER) // 2
            await peer.start()
            await peer.audio(WEATHER[:half])
            yield
            await peer.audio(WEATHER[half:])
            await peer.stop()
            heard = await peer.rest()
            assert peer.socket.close_code == 1000
        self.alone = self.alone or by_kind(heard)
        assert len(self.alone["segment"]) == 2
        assert by_kind(heard) == self.alone


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
