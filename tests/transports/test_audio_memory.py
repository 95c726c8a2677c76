"""Memory for audio over real sockets: the greedy are not read, the others are, and newcomers are told to come back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
import websockets

from streamer.app import App
from streamer.session.events import Mode
from streamer.session.memory import MemoryAccount
from streamer.session.messages import Start, Stop
from streamer.session.settings import Limits
from streamer.testing import ScriptedEngine
from tests.faults.raw import BINARY, CONTINUATION, frame, header, raw, text
from tests.session.harness import S16
from tests.transports.carriers import calling, serving_all
from tests.transports.serving import V2_START, V2_STOP, dialled, events, serving
from tests.transports.test_listener import until

MIB = 2**20
LARGEST = {"encoding": "pcm_f64le", "sample_rate": 192_000, "channels": 8}
FRAME_BYTES = 64
KEEP_OPEN = {"type": "stop", "keep_open": True}


class Greedy:
    """Sends more than a session may hold, behind a stop that waits for the model. `sent`: bytes so far."""

    def __init__(self, socket: websockets.ClientConnection, total: int) -> None:
        self.socket = socket
        self.total = total
        self.sent = 0
        self.finished: list[dict[str, Any]] = []

    async def send(self) -> None:
        piece = bytes(1_024 * FRAME_BYTES)
        await self.socket.send(json.dumps({"type": "start", "format": LARGEST, "chunk_ms": 20}))
        await self.socket.send(piece * 10)
        await self.socket.send(json.dumps(KEEP_OPEN))
        while self.sent < self.total:
            await self.socket.send(piece)
            self.sent += len(piece)
        await self.socket.send(json.dumps(V2_STOP))

    async def receive(self) -> None:
        async for message in self.socket:
            event = json.loads(message)
            assert event["type"] != "error", event
            if event["type"] == "finished":
                self.finished.append(event)


class Gauge:
    """The most that a server's audio took, looked at in each turn of the loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.most = 0

    async def watch(self) -> None:
        while True:
            self.most = max(self.most, self._app.memory.used)
            await asyncio.sleep(0)


@asynccontextmanager
async def greedy(app: App, count: int, total: int) -> AsyncIterator[tuple[list[Greedy], Gauge]]:
    """Greedy sessions that send until the end of the block."""
    gauge = Gauge(app)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(gauge.watch())
        clients = []
        for _ in range(count):
            connecting = websockets.connect(f"ws://127.0.0.1:{app.port}/api/v2/simple", compression=None)
            clients.append(Greedy(await stack.enter_async_context(connecting), total))
        work = [tasks.create_task(step) for client in clients for step in (client.send(), client.receive())]
        yield clients, gauge
        await asyncio.gather(*work)
        watching.cancel()


def unread(app: App) -> int:
    """Sessions that are not read now."""
    return sum(connection._read_gate.is_closed for connection in app.connections._connections)


@pytest.mark.parametrize("sessions", [1, 6])
async def test_greedy_sessions_are_throttled_within_their_bounds_and_lose_nothing(sessions: int) -> None:
    limits = Limits()
    async with serving() as app:
        engine = app.engine
        assert isinstance(engine, ScriptedEngine)
        engine.is_holding = True
        total = 4 * limits.max_session_bytes // (1 + (sessions > 1))
        async with greedy(app, sessions, total) as (clients, gauge):
            await until(lambda: unread(app) == sessions)
            assert all(client.sent < total for client in clients)
            engine.is_holding = False
            engine.release_all()
        at_once = 2 * limits.max_audio_message_bytes + 2 * limits.max_taken_bytes
        assert gauge.most <= sessions * (limits.max_session_bytes + at_once)
        assert gauge.most > sessions * limits.max_session_bytes // 2
        for client in clients:
            assert [event["processed"] for event in client.finished] == [10 * 1_024, total // FRAME_BYTES]
        await app.connections.wait_empty()
        await until(lambda: app.memory.used == 0)


def test_six_sessions_may_hold_less_than_200_mib_by_default() -> None:
    limits = Limits()
    at_once = 2 * limits.max_audio_message_bytes + 2 * limits.max_taken_bytes
    assert 6 * (limits.max_session_bytes + at_once) < 200 * MIB


async def test_new_sessions_are_refused_while_memory_is_scarce_and_admitted_again_afterwards() -> None:
    async with serving_all() as (app, _):
        others = MemoryAccount(app.memory)
        others.update(app.memory.max_bytes * 7 // 8 + 1)
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(f"http://127.0.0.1:{app.port}/api/v2/simple")
        assert refused.value.status == 503
        assert refused.value.headers is not None
        assert "Retry-After" in refused.value.headers
        async with calling(app, "grpc", Mode.SIMPLE) as peer:
            if not peer.end:
                await peer.hear_the_end()
            assert "overloaded" in peer.end
        others.update(0)
        for transport in ("websocket", "grpc"):
            async with calling(app, transport, Mode.SIMPLE) as peer:
                await peer.say(Start(S16), Stop())
                await peer.hear_the_end()
                assert peer.end == "normal"
        await app.connections.wait_empty()
        await until(lambda: app.memory.used == 0)


@pytest.mark.parametrize("fragments", [1, 16])
async def test_a_message_of_a_mebibyte_is_taken(fragments: int) -> None:
    async with serving() as app, raw(app.port) as client:
        await client.send(text(V2_START))
        piece = bytes(MIB // fragments)
        await client.send(frame(BINARY, piece, fin=fragments == 1))
        for number in range(1, fragments):
            await client.send(frame(CONTINUATION, piece, fin=number == fragments - 1))
        await client.send(text(V2_STOP))
        while (event := await client.next_event())["type"] != "finished":
            assert event["type"] != "error"
        assert event["processed"] == MIB // 2


@pytest.mark.parametrize("fragments", [1, 2])
async def test_a_message_of_one_byte_more_is_closed_before_it_is_read(fragments: int) -> None:
    async with serving() as app, raw(app.port) as client:
        await client.send(text(V2_START))
        if fragments == 1:
            await client.send(header(BINARY, MIB + 1))
        else:
            await client.send(frame(BINARY, bytes(MIB), fin=False) + frame(CONTINUATION, b"x"))
        assert await client.close_code() == 1009
        await app.connections.wait_empty()
        await until(lambda: app.memory.used == 0)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_a_message_that_is_not_complete_is_counted_and_given_back(fragmented: bool) -> None:
    async with serving() as app:
        async with raw(app.port) as client:
            await client.send(text(V2_START))
            await client.next_event()
            if fragmented:
                await client.send(
                    frame(BINARY, bytes(400_000), fin=False) + frame(CONTINUATION, bytes(300_000), fin=False)
                )
            else:
                await client.send(header(BINARY, MIB) + bytes(700_000))
            await until(lambda: app.memory.used >= 700_000)
        await app.connections.wait_empty()
        await until(lambda: app.memory.used == 0)


async def test_a_message_that_there_is_no_memory_for_ends_its_connection_by_name_and_no_other() -> None:
    async with serving() as app, raw(app.port) as client, dialled(app) as neighbour:
        await neighbour.send_json(V2_START)
        await client.send(text(V2_START))
        await client.next_event()
        others = MemoryAccount(app.memory)
        others.update(app.memory.max_bytes)
        await client.send(header(BINARY, MIB) + bytes(700_000))
        assert await client.close_code() == 1013
        await neighbour.send_bytes(bytes(32_000))
        await neighbour.send_json(V2_STOP)
        heard = await events(neighbour)
        assert heard[-1]["processed"] == 16_000
        assert neighbour.close_code == 1000
        others.update(0)
        await until(lambda: app.memory.used == 0)


async def test_a_call_over_grpc_takes_the_memory_of_a_message_while_it_lasts() -> None:
    async with serving_all() as (app, _):
        async with calling(app, "grpc", Mode.SIMPLE) as peer:
            await peer.say(Start(S16))
            await until(lambda: app.memory.used >= app.settings.for_grpc().max_audio_message_bytes)
            await peer.say(Stop())
            await peer.hear_the_end()
        await app.connections.wait_empty()
        await until(lambda: app.memory.used == 0)
