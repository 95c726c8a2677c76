"""Behind a trusted proxy, a session has the address and the limits of its client."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.telemetry.observer import Observer, SessionInfo, SessionObserver, SessionView
from streamer.transports.proxy_protocol import SIGNATURE
from tests.faults.raw import UPGRADE
from tests.media.material import read
from tests.transports.certificates import Authority
from tests.transports.serving import scripted
from tests.transports.test_handshake_limits import let_go

ALICE, BOB, CAROL = "203.0.113.1", "203.0.113.2", "203.0.113.3"


class Peers(Observer):
    """Notes the address of each session, and of each refusal with its reason."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.refusals: list[tuple[str, ErrorCode]] = []

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        self.sessions.append(info.peer)
        return super().new_session(info, view, now)

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        self.refusals.append((peer, code))


@asynccontextmanager
async def serving(peers: Peers, **sections: Any) -> AsyncIterator[App]:
    server = {"port": 0, "trusted_proxies": ("127.0.0.0/8",), **sections.pop("server", {})}
    settings = Settings(server=server, grpc={"port": -1}, **sections)
    async with App(settings, parts=scripted(), observers=[peers], grpc=GrpcAvailability.REQUIRED) as app:
        yield app


async def connected(
    stack: AsyncExitStack, app: App, *, first: bytes = b"", headers: bytes = b"", tls: ssl.SSLContext | None = None
) -> bytes:
    """The first line of the answer to an upgrade, on a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    stack.callback(let_go, reader, writer)
    writer.write(first)
    if tls is not None:
        await writer.start_tls(tls, server_hostname="localhost")
    writer.write(UPGRADE + headers + b"\r\n")
    return (await reader.readline()).strip()


async def posted(stack: AsyncExitStack, app: App, *, first: bytes = b"", headers: bytes = b"") -> bytes:
    """The first line of the answer to a file by POST, once all of the answer has come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    stack.callback(let_go, reader, writer)
    body = read("opus60.ogg")
    head = b"POST /api/v2/simple HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    writer.write(first + head + headers + b"\r\n" + body)
    return (await reader.read()).partition(b"\r\n")[0]


def version_2(source: bytes, *, command: int = 0x21, family: int = 0x11, extensions: bytes = b"") -> bytes:
    block = (source + b"\x7f\0\0\1" + b"\x12\x34\x56\x78" if family == 0x11 else source) + extensions
    return SIGNATURE + bytes([command, family]) + len(block).to_bytes(2, "big") + block


V1 = b"PROXY TCP4 203.0.113.1 10.0.0.1 4711 8080\r\n"
HEADERS = {
    "version 1": (V1, ALICE),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 8080\r\n", "2001:db8::7"),
    "version 1, the longest": (b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
                               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "version 2": (version_2(bytes([203, 0, 113, 1])), ALICE),
    "version 2 with extensions": (version_2(bytes([203, 0, 113, 1]), extensions=b"\4\0\1x" * 20), ALICE),
    "version 2, IPv6": (version_2(socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(20), family=0x21),
                        "2001:db8::7"),
    "version 2, health check": (version_2(b"", command=0x20, family=0), "127.0.0.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
async def test_the_address_comes_from_the_proxy_protocol_however_it_arrives(name: str) -> None:
    header, client = HEADERS[name]
    peers = Peers()
    async with serving(peers, server={"proxy_header": "proxy-protocol"}) as app, AsyncExitStack() as stack:
        assert b" 101 " in await connected(stack, app, first=header)
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        stack.callback(let_go, reader, writer)
        for byte in header + UPGRADE + b"\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert b" 101 " in await reader.readline()
        assert peers.sessions == [client, client]


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.1\r\n",
        b"PROXY TCP4 one two three four\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x31\x11\0\0",
        SIGNATURE + b"\x21\x11\0\4\1\2\3\4",
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
async def test_a_connection_of_a_proxy_without_a_valid_header_is_closed_without_an_answer(first: bytes) -> None:
    peers = Peers()
    async with serving(peers, server={"proxy_header": "proxy-protocol"}) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(first)
        writer.write_eof()
        with suppress(ConnectionResetError):  # it is closed with unread bytes
            assert await reader.read() == b""
        writer.transport.abort()
    assert peers.sessions == []


async def test_a_stranger_s_header_is_no_http(tmp_path: Path) -> None:
    peers = Peers()
    server = {"trusted_proxies": ("10.0.0.0/8",), "proxy_header": "proxy-protocol"}
    async with serving(peers, server=server) as app, AsyncExitStack() as stack:
        assert b" 400 " in await connected(stack, app, first=V1)
        assert b" 101 " in await connected(stack, app)
    assert peers.sessions == ["127.0.0.1"]


async def test_the_header_comes_before_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    peers = Peers()
    server = {"proxy_header": "proxy-protocol"}
    async with serving(peers, server=server, tls=authority.settings) as app, AsyncExitStack() as stack:
        assert b" 101 " in await connected(stack, app, first=V1, tls=authority.trust())
    assert peers.sessions == [ALICE]


WAYS = {
    "proxy-protocol": lambda client: {"first": b"PROXY TCP4 %s 10.0.0.1 4711 8080\r\n" % client.encode()},
    "forwarded": lambda client: {"headers": b"Forwarded: for=6.6.6.6, for=%s\r\n" % client.encode()},
    "x-forwarded-for": lambda client: {"headers": b"X-Forwarded-For: 6.6.6.6, %s\r\n" % client.encode()},
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_limit_per_address_is_the_client_s(way: str) -> None:
    peers = Peers()
    server = {"proxy_header": way, "max_sessions_per_address": 1, "max_handshakes_per_address": 1}
    async with serving(peers, server=server) as app, AsyncExitStack() as stack:
        assert b" 101 " in await connected(stack, app, **WAYS[way](ALICE))
        assert b" 429 " in await connected(stack, app, **WAYS[way](ALICE))
        assert b" 101 " in await connected(stack, app, **WAYS[way](BOB))
    assert (peers.sessions, peers.refusals) == ([ALICE, BOB], [(ALICE, ErrorCode.RATE_LIMITED)])


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_over_its_budget_is_refused_and_its_neighbour_behind_the_proxy_is_not(way: str) -> None:
    peers = Peers()
    async with serving(peers, server={"proxy_header": way}) as app, AsyncExitStack() as stack:
        app._addresses.charge(ALICE, 60.0)
        assert b" 429 " in await connected(stack, app, **WAYS[way](ALICE))
        assert b" 101 " in await connected(stack, app, **WAYS[way](BOB))
        assert app._addresses.wait_s("127.0.0.1") == 0.0
    assert peers.sessions == [BOB]


@pytest.mark.parametrize("way", WAYS)
async def test_a_file_by_post_has_the_address_and_the_limits_of_its_client(way: str) -> None:
    peers = Peers()
    server = {"proxy_header": way, "max_sessions_per_address": 1, "max_handshakes_per_address": 1}
    async with serving(peers, server=server) as app, AsyncExitStack() as stack:
        assert b" 101 " in await connected(stack, app, **WAYS[way](ALICE))
        assert b" 429 " in await posted(stack, app, **WAYS[way](ALICE))
        assert b" 200 " in await posted(stack, app, **WAYS[way](BOB))
        app._addresses.charge(BOB, 60.0)
        assert b" 429 " in await posted(stack, app, **WAYS[way](BOB))
        assert b" 200 " in await posted(stack, app, **WAYS[way](CAROL))
    assert peers.sessions == [ALICE, BOB, CAROL]
    assert peers.refusals[0] == (ALICE, ErrorCode.RATE_LIMITED)


@pytest.mark.parametrize("way", ["forwarded", "x-forwarded-for"])
async def test_idle_connections_of_a_proxy_have_no_share_of_an_address(way: str) -> None:
    """It keeps them for the requests of its clients."""
    server = {"proxy_header": way, "max_handshakes_per_address": 1}
    async with serving(Peers(), server=server) as app, AsyncExitStack() as stack:
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
            stack.callback(let_go, reader, writer)
        assert b" 101 " in await connected(stack, app, **WAYS[way](ALICE))


async def test_a_header_from_a_stranger_is_ignored() -> None:
    peers = Peers()
    server = {"trusted_proxies": ("10.0.0.0/8",)}
    async with serving(peers, server=server) as app, AsyncExitStack() as stack:
        assert b" 101 " in await connected(stack, app, headers=b"Forwarded: for=203.0.113.1\r\n")
    assert peers.sessions == ["127.0.0.1"]


async def test_a_call_over_grpc_has_the_address_in_its_metadata() -> None:
    peers = Peers()
    async with serving(peers) as app, grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
        method = channel.stream_stream("/streamer.v2.Streamer/Stream")
        call = method(metadata=(("forwarded", f"for={ALICE}"),))
        audio_format = pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1)
        await call.write(pb.ClientMessage(start=pb.Start(format=audio_format)).SerializeToString())
        assert await call.read() is not grpc.aio.EOF
        call.cancel()
    assert peers.sessions == [ALICE]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is in Debian's package haproxy")
@pytest.mark.parametrize(
    ("way", "mode", "server_options", "options"),
    [
        ("proxy-protocol", "tcp", "send-proxy", ""),
        ("proxy-protocol", "tcp", "send-proxy-v2", ""),
        ("x-forwarded-for", "http", "", "option forwardfor"),
        ("forwarded", "http", "", "http-request set-header Forwarded for=%[src]"),
    ],
)
async def test_haproxy_names_its_clients(
    tmp_path: Path, way: str, mode: str, server_options: str, options: str
) -> None:
    peers = Peers()
    async with serving(peers, server={"proxy_header": way, "trusted_proxies": ("127.0.0.1",)}) as app:
        listening = socket.create_server(("127.0.0.1", 0))
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            f"""defaults
  mode {mode}
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
listen streamer
  bind fd@{listening.fileno()}
  {options}
  server one 127.0.0.1:{app.port} source 127.0.0.1 {server_options}
"""
        )
        process = await asyncio.create_subprocess_exec(
            "haproxy", "-db", "-f", str(config), pass_fds=[listening.fileno()], stderr=asyncio.subprocess.DEVNULL
        )
        try:
            client = socket.socket()
            client.setblocking(False)
            client.bind(("127.0.0.7", 0))
            await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
            reader, writer = await asyncio.open_connection(sock=client)
            writer.write(UPGRADE + b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n")
            assert b" 101 " in await reader.readline()
            writer.transport.abort()
        finally:
            process.kill()
            await process.wait()
            listening.close()
    assert peers.sessions == ["127.0.0.7"]
