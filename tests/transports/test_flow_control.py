"""A file sent as fast as possible, over a real socket: slowed, never punished, never buffered without bound."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SO_RCVBUF, SO_SNDBUF

import pytest
import websockets
from aiohttp import ClientSession, web

from streamer.app import App
from streamer.config import Settings
from streamer.telemetry.observer import SessionObserver
from streamer.testing import noise, s16le
from streamer.transports.limits import Buffers, HandshakeLimits
from streamer.transports.listener import Listener
from tests.connection.in_memory_server import RecordingObserver
from tests.transports.serving import V2_START, V2_STOP

AHEAD_S = 2.0
MESSAGE_S = 0.1
ACK_S = 0.5
"""How far ahead a client is is looked at with each ack at least; see docs/design/flow-control.md."""
FILE = s16le(noise(60.0))
CUT = round(MESSAGE_S * 32_000)


class Watching(RecordingObserver):
    """Notes how far ahead the client is, whenever the model answers."""

    def __init__(self) -> None:
        super().__init__()
        self.backlogs: list[float] = []

    def new_session(self, info, progress, now: float) -> SessionObserver:  # type: ignore[no-untyped-def]
        self.progress = progress
        return super().new_session(info, progress, now)

    def on_job_submitted(self, job, now: float) -> None:  # type: ignore[no-untyped-def]
        self.backlogs.append(self.progress.backlog_s)


def narrow(port: int) -> socket.socket:
    """A socket with a small buffer of its own, as a real network would leave it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    connection.connect(("127.0.0.1", port))
    return connection


@asynccontextmanager
async def slow_server(notes: RecordingObserver) -> AsyncIterator[App]:
    """A model that takes a thirtieth of real time, so that a file has to wait."""
    settings = Settings(server={"port": 0}, model={"constant_factor": 1 / 30}, limits={"audio_ahead_s": AHEAD_S})
    async with App(settings, observers=[notes]) as app:
        yield app


async def test_a_file_at_full_speed_is_slowed_while_its_pings_are_answered() -> None:
    notes = Watching()
    async with (
        slow_server(notes) as app,
        websockets.connect(
            f"ws://127.0.0.1:{app.port}/api/v2/simple", sock=narrow(app.port), ping_interval=0.1, ping_timeout=10
        ) as client,
    ):
        await client.send(json.dumps(V2_START))
        reading = asyncio.create_task(_last_event(client))
        pongs = []
        for at in range(0, len(FILE), CUT):
            await client.send(FILE[at : at + CUT])
            pongs.append(await client.ping())
        await client.send(json.dumps(V2_STOP))
        finished = await reading
        await asyncio.gather(*pongs)
    assert (finished["type"], finished["received"], finished["processed"]) == ("finished", 960_000, 960_000)
    assert client.close_code == 1000
    assert notes.holds > 0
    assert max(notes.backlogs) <= AHEAD_S + ACK_S + MESSAGE_S


async def _last_event(client: websockets.ClientConnection) -> dict[str, object]:
    event = {}
    async for message in client:
        event = json.loads(message)
    return event


@pytest.mark.skipif(sys.platform != "linux", reason="others keep what was asked for")
async def test_each_connection_has_the_buffers_that_were_asked_for() -> None:
    async def sizes(request: web.Request) -> web.Response:
        assert request.transport is not None
        line: socket.socket = request.transport.get_extra_info("socket")
        return web.json_response([line.getsockopt(socket.SOL_SOCKET, option) for option in (SO_RCVBUF, SO_SNDBUF)])

    application = web.Application()
    application.router.add_get("/", sizes)
    limits = HandshakeLimits(1, 5.0, lambda *_: None)
    listener = Listener(application, limits, buffers=Buffers(receive=50_000, send=60_000), shutdown_timeout_s=1.0)
    port = await listener.start("127.0.0.1", 0)
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}/") as answer:
        assert await answer.json() == [100_000, 120_000]  # Linux keeps twice what it is asked for
    await listener.stop()
