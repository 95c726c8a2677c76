"""Connections before they are sessions: bounded in number, whatever loop and encryption, and handed over whole."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.session.events import Mode
from streamer.telemetry.observer import Observer
from tests.faults.raw import BINARY, FORMAT, TEXT, UPGRADE, Raw, frame, text
from tests.transports.carriers import calling, serving_all
from tests.transports.certificates import Authority
from tests.transports.serving import SECOND, V2_STOP, scripted

MAX = 2
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refusals(Observer):
    """Notes who was refused, and for what."""

    def __init__(self) -> None:
        self.codes: list[ErrorCode] = []

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        self.codes.append(code)


@asynccontextmanager
async def serving(refusals: Refusals, *, timeout_s: float = 30.0, **sections: object) -> AsyncIterator[App]:
    server = {"port": 0, "max_handshakes": MAX, "handshake_timeout_s": timeout_s}
    settings = Settings(server=server, **sections)  # type: ignore[arg-type]
    async with App(settings, parts=scripted(), observers=[refusals]) as app:
        yield app


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


class Clients:
    """Connections that are gone with the test."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self, app: App, tls: ssl.SSLContext | None = None) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port, ssl=tls)
        self._writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        while self._writers:
            writer = self._writers.pop()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest_asyncio.fixture
async def clients() -> AsyncIterator[Clients]:
    clients = Clients()
    yield clients
    await clients.close()


async def test_one_connection_too_many_is_told_so_and_counted_and_its_place_comes_back(clients: Clients) -> None:
    refusals = Refusals()
    loop_errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
    async with serving(refusals) as app:
        for _ in range(MAX):
            await clients.open(app)
        reader, _ = await clients.open(app)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        assert refusals.codes == [ErrorCode.OVERLOADED]
        await clients.close()
        await until(lambda: not app._listeners[0].connections)
        await clients.open(app)
        await until(lambda: len(app._listeners[0].connections) == 1)
        await clients.close()
    assert refusals.codes == [ErrorCode.OVERLOADED]
    assert loop_errors == []


async def test_a_burst_of_connections_is_bounded_too(clients: Clients) -> None:
    refusals = Refusals()
    async with serving(refusals) as app:
        await asyncio.gather(*[clients.open(app) for _ in range(200)])
        await until(lambda: len(refusals.codes) == 200 - MAX)
        assert len(app._listeners[0].connections) == MAX
        await clients.close()


async def test_sessions_count_against_the_bound_no_more_and_do_not_loosen_it(clients: Clients) -> None:
    async with serving_all(server={"max_handshakes": MAX}) as (app, _), AsyncExitStack() as sessions:
        for carrier in ("grpc", "grpc", "grpc", "websocket", "websocket", "websocket"):
            await sessions.enter_async_context(calling(app, carrier, Mode.SIMPLE))
        await until(lambda: not app._listeners[0].connections)
        for _ in range(MAX):
            await clients.open(app)
        reader, _ = await clients.open(app)
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        await clients.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue()
    return authority


async def test_handshakes_of_tls_that_never_end_are_bounded(clients: Clients, authority: Authority) -> None:
    refusals = Refusals()
    async with serving(refusals, tls=authority.settings) as app:
        for _ in range(MAX):
            _, writer = await clients.open(app)
            writer.write(b"\x16\x03\x01")
        await until(lambda: len(app._listeners[0].connections) == MAX)
        reader, _ = await clients.open(app)
        assert await reader.read() == b""
        assert refusals.codes == [ErrorCode.OVERLOADED]
        await clients.close()
        await until(lambda: not app._listeners[0].connections)
        await clients.open(app, authority.trust())
        await clients.close()


@pytest.mark.parametrize("first", [b"", b"GET / HT", b"\x16\x03\x01"])
async def test_what_becomes_no_request_in_time_is_closed_and_counted(
    clients: Clients, first: bytes, authority: Authority
) -> None:
    tls = {"tls": authority.settings} if first.startswith(b"\x16") else {}
    refusals = Refusals()
    async with serving(refusals, timeout_s=0.05, **tls) as app:
        reader, writer = await clients.open(app)
        writer.write(first)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            assert tls
        await until(lambda: not app._listeners[0].connections)
        assert refusals.codes == [ErrorCode.START_TIMEOUT]
        await clients.close()


async def test_who_fails_the_handshake_of_tls_leaves_nothing(clients: Clients, authority: Authority) -> None:
    refusals = Refusals()
    async with serving(refusals, tls=authority.settings) as app:
        with pytest.raises(ssl.SSLError):
            await clients.open(app, ssl.create_default_context())
        reader, writer = await clients.open(app)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read()
        await clients.close()
        await until(lambda: not app._listeners[0].connections and not app._listeners[0].opening)
    assert refusals.codes == []


HEAD = UPGRADE + b"\r\n"
STREAM = text({"type": "start", "format": FORMAT}) + frame(BINARY, SECOND) + text(V2_STOP)


async def upgraded(connection: Streams) -> None:
    assert (await connection[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def finished(connection: Streams) -> int:
    """Read to the end of a stream; returns how many samples were processed."""
    reader, writer = connection
    peer = Raw(reader, writer, lambda _: None, lambda _: None)
    while (event := await peer.next_event())["type"] != "finished":
        assert event["type"] != "error", event
    assert await peer.close_code() == 1000
    processed: int = event["processed"]
    return processed


@pytest.mark.parametrize(
    "cut", [1, len(HEAD) // 2, len(HEAD) - 3, len(HEAD) - 1, len(HEAD), len(HEAD) + 1, len(HEAD) + 40]
)
async def test_frames_that_come_with_the_request_are_not_lost_wherever_it_is_cut(clients: Clients, cut: int) -> None:
    async with serving(Refusals()) as app:
        connection = await clients.open(app)
        writer = connection[1]
        writer.write((HEAD + STREAM)[:cut])
        for _ in range(5):
            await asyncio.sleep(0)  # a packet of its own
        writer.write((HEAD + STREAM)[cut:])
        await upgraded(connection)
        assert await finished(connection) == 16_000


async def test_more_than_is_kept_before_the_answer_is_left_to_the_kernel_and_not_lost(clients: Clients) -> None:
    async with serving(Refusals()) as app:
        connection = await clients.open(app)
        start, audio, stop = text({"type": "start", "format": FORMAT}), frame(BINARY, SECOND), text(V2_STOP)
        connection[1].write(HEAD + start + audio * 20 + stop)
        await upgraded(connection)
        assert await finished(connection) == 320_000


async def test_a_connection_that_was_used_for_http_can_become_a_websocket(clients: Clients) -> None:
    async with serving(Refusals()) as app:
        connection = await clients.open(app)
        reader, writer = connection
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.write(HEAD)
        await upgraded(connection)
        writer.write(STREAM)
        assert await finished(connection) == 16_000


@pytest.mark.parametrize("path", [b"/livez", b"/nowhere"])
async def test_an_answer_that_is_no_websocket_ends_a_connection_that_asked_for_one(
    clients: Clients, path: bytes
) -> None:
    async with serving(Refusals()) as app:
        reader, writer = await clients.open(app)
        writer.write(HEAD.replace(b"/api/v2/simple", path) + frame(TEXT, b"early"))
        assert b"Connection: close" in await reader.read()
