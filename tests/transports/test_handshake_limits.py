"""Silent connections take no place from those who speak: one address has a share, and the silent give way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.transports import listener
from tests.faults.raw import raw
from tests.transports.serving import scripted
from tests.transports.test_listener import Refusals, until

MAX = 4


@asynccontextmanager
async def serving(refusals: Refusals, **server: object) -> AsyncIterator[App]:
    settings = Settings(server={"port": 0, "handshake_timeout_s": 60.0, **server})  # type: ignore[arg-type]
    async with App(settings, parts=scripted(), observers=[refusals]) as app:
        yield app


async def silent(stack: AsyncExitStack, app: App, address: str) -> asyncio.StreamReader:
    """A connection from an address of the loopback network that says nothing."""
    loop, connection = asyncio.get_running_loop(), socket.socket()
    connection.setblocking(False)
    connection.bind((address, 0))
    await loop.sock_connect(connection, ("127.0.0.1", app.port))
    reader, writer = await asyncio.open_connection(sock=connection)
    stack.callback(let_go, reader, writer)
    return reader


def let_go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A stream whose reader nobody has is closed by asyncio: so it is held until here."""
    del reader
    writer.transport.abort()


async def live(app: App) -> bytes:
    """What a probe reads."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    try:
        return (await reader.read())[:13]
    finally:
        writer.transport.abort()


def held(app: App) -> int:
    return len(app._listeners[0].connections)


async def test_one_address_has_its_share_of_the_places_and_no_more() -> None:
    refusals = Refusals()
    async with serving(refusals, max_handshakes_per_address=2) as app, AsyncExitStack() as stack:
        for _ in range(2):
            await silent(stack, app, "127.0.0.2")
        await until(lambda: held(app) == 2)
        assert (await (await silent(stack, app, "127.0.0.2")).read()).startswith(b"HTTP/1.1 503 ")
        assert refusals.codes == [ErrorCode.OVERLOADED]
        assert await live(app) == b"HTTP/1.1 200 "
        async with raw(app.port):
            pass


async def test_a_session_of_an_address_is_no_part_of_its_share() -> None:
    async with serving(Refusals(), max_handshakes_per_address=1) as app, raw(app.port), raw(app.port):
        assert await live(app) == b"HTTP/1.1 200 "


async def test_those_who_have_been_silent_for_long_give_way_to_those_who_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "MIN_SILENCE_S", 0.0)
    refusals = Refusals()
    async with serving(refusals, max_handshakes=MAX) as app, AsyncExitStack() as stack:
        readers = []
        for number in range(MAX):
            readers.append(await silent(stack, app, f"127.0.0.{number + 2}"))
            await until(lambda expected=number + 1: held(app) == expected)  # type: ignore[misc]
        assert await live(app) == b"HTTP/1.1 200 "
        assert (await readers[0].read()).startswith(b"HTTP/1.1 503 ")
        assert refusals.codes == [ErrorCode.OVERLOADED]
        async with raw(app.port):  # takes the place that the probe has left
            pass
        assert not any(reader.at_eof() for reader in readers[1:])


async def test_who_speaks_gives_way_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MIN_SILENCE_S", 0.0)
    async with serving(Refusals(), max_handshakes=1) as app, AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        stack.callback(writer.transport.abort)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert await live(app) == b"HTTP/1.1 503 "
        assert not reader.at_eof()
