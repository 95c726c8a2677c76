"""`streamer check --dialects` as a user runs it: the table, the exit code, and servers that answer wrongly."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from typer.testing import CliRunner

from streamer.access.keys import new_key
from streamer.cli import app as cli
from streamer.cli.check_dialects import attempts
from streamer.cli.dialect_probes import PROBES
from streamer.session.actions import Job, Outcome, Output
from tests.dialects.stage import transcribing
from tests.transports.serving import serving

WORDS = "It is one sentence."
ROW = re.compile(r"^ *(\w+) +(file|live|Realtime|AudioSocket)? +(works|fails|not tried)(?: +(.*))?$")
OVER_HTTP = tuple(name for name in PROBES if name not in ("wyoming", "calls"))
"""Protocols without a port of their own."""
PORTS = {"serve": ["all"], "wyoming_port": -1, "calls_audiosocket_port": -1}


def one_sentence(job: Job) -> Outcome:
    """Say the same for however the recording is cut."""
    return Output.of({"text": WORDS if job.segment_id == 1 else ""})


async def checked(url: str, *options: str) -> Result:
    """Run the command in a thread, beside the server."""
    arguments = ["check", "--dialects", url, *options]
    return await asyncio.to_thread(CliRunner(env={"COLUMNS": "200"}).invoke, cli, arguments)


def rows(result: Result) -> list[tuple[str, str, str]]:
    """Return protocol, attempt and state of each row of the table."""
    found = [match.groups() for line in result.stdout.splitlines() if (match := ROW.match(line.rstrip()))]
    return [(protocol, tried or "", state) for protocol, tried, state, _ in found]


async def test_a_server_whose_protocols_all_work_has_a_table_of_them_and_exit_code_0() -> None:
    async with serving(transcribing(one_sentence), grpc={"port": 0}) as app:
        result = await checked(app.url)
    assert rows(result) == [
        ("v2", "file", "works"),
        ("openai", "file", "works"),
        ("openai", "Realtime", "works"),
        ("deepgram", "file", "works"),
        ("deepgram", "live", "works"),
        ("vosk", "live", "works"),
        ("assemblyai", "live", "works"),
        ("speechmatics", "live", "works"),
    ]
    assert result.stdout.count(WORDS) == 8
    assert (result.exit_code, result.stderr) == (0, "")


async def test_every_protocol_of_the_server_is_tried_also_those_with_a_port_of_their_own() -> None:
    async with serving(transcribing(one_sentence), dialects=PORTS) as app:
        result = await checked(app.url)
        assert {protocol for protocol, _, _ in rows(result)} == {"v2", *app.dialects.names}
    assert {("wyoming", "live", "works"), ("calls", "AudioSocket", "works")} <= set(rows(result))
    assert (result.stdout.count(WORDS), result.exit_code) == (10, 0)


async def test_a_protocol_that_cannot_be_tried_is_in_the_table_and_changes_no_exit_code() -> None:
    """Twilio signs its requests, so nobody can take its place."""
    dialects = {"serve": ["calls"], "calls_audiosocket_port": 0}
    async with serving(transcribing(one_sentence), dialects=dialects) as app:
        result = await checked(app.url)
    assert rows(result) == [("v2", "file", "works"), ("calls", "", "not tried")]
    assert result.exit_code == 0


@pytest.mark.parametrize("off", ["vosk", "deepgram"])
async def test_a_protocol_that_is_switched_off_is_not_in_the_table(off: str) -> None:
    serve = [name for name in OVER_HTTP if name != off]
    async with serving(transcribing(one_sentence), dialects={"serve": serve}) as app:
        result = await checked(app.url)
    assert {protocol for protocol, _, _ in rows(result)} == {"v2", *serve}
    assert result.exit_code == 0


async def test_a_server_without_protocols_of_other_services_says_what_they_need() -> None:
    async with serving(transcribing(one_sentence), dialects={"serve": ["none"]}) as app:
        result = await checked(app.url)
    assert rows(result) == [("v2", "file", "works")]
    assert "They need a model that returns transcripts" in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize("name", ["wyoming", "calls"])
async def test_a_port_that_nothing_listens_on_fails(name: str) -> None:
    with free_port() as port:
        async with wrong_server(saying(": listening\n"), info={"dialects": [name], "ports": {name: port}}) as url:
            _, attempt = [attempt async for attempt in attempts(url, None)]
    assert attempt.dialect == name
    assert "ConnectionRefusedError" in attempt.problem


async def test_other_words_than_the_native_ones_fail_with_exit_code_1() -> None:
    texts = iter(range(1_000))
    changing = transcribing(lambda _: Output.of({"text": f"word {next(texts)}"}))
    async with serving(changing, dialects={"serve": ["vosk"]}) as app:
        result = await checked(app.url)
    assert rows(result) == [("v2", "file", "works"), ("vosk", "live", "fails")]
    assert "expected the words of v2: word" in result.stdout
    assert result.exit_code == 1


async def test_a_key_is_sent_in_the_way_of_each_protocol() -> None:
    secret, key = new_key("me")
    async with serving(transcribing(one_sentence), access={"keys": (str(key),)}) as app:
        assert (await checked(app.url, "--token", secret)).exit_code == 0
        for options in ((), ("--token", "sk_wrong")):
            result = await checked(app.url, *options)
            assert (result.exit_code, result.stdout) == (2, "")
            assert re.fullmatch(r"error: .*: expected .*, got 401: .*\n", result.stderr)


# Servers that are wrong ---------------------------------------------------------------------------------


@asynccontextmanager
async def wrong_server(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], info: Any = None
) -> AsyncIterator[str]:
    """A server whose native protocol works, and whose others answer as `answer` does."""

    async def described(_: web.Request) -> web.Response:
        return web.json_response({"dialects": ["v1", "v2", *OVER_HTTP]} if info is None else info)

    async def native(_: web.Request) -> web.Response:
        return web.Response(text=WORDS)

    served = web.Application(client_max_size=10_000_000)
    served.router.add_get("/api/v2/info", described)
    served.router.add_post("/api/v2/segmented", native)
    served.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(served, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def free_port() -> Any:
    """Bind a port that nothing listens on, for a block; its number is the context's value."""

    class Bound:
        def __enter__(self) -> int:
            self.socket = socket.socket()
            self.socket.bind(("127.0.0.1", 0))
            port: int = self.socket.getsockname()[1]
            return port

        def __exit__(self, *_: object) -> None:
            self.socket.close()

    return Bound()


def saying(*frames: str | bytes) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Send these frames on a WebSocket and close it; to anything else answer with the first one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "upgrade" not in request.headers.get("Connection", "").lower():
            text = frames[0] if frames else ""
            return web.Response(body=text if isinstance(text, bytes) else text.encode())
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        for frame in frames:
            await (connection.send_bytes(frame) if isinstance(frame, bytes) else connection.send_str(frame))
        await connection.close()
        return connection

    return answer


async def missing(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="<html>")


WRONG = {
    "not there": missing,
    "a close at once": saying(),
    "no JSON": saying("hello"),
    "bytes": saying(b"\xff\xfe", b"\0"),
    "a list": saying("[1]"),
    "a text": saying('"x"'),
    "null": saying("null"),
    "no fields": saying("{}"),
    "another protocol": saying('{"type":"Results","message":"AddTranscript","is_final":true,"end_of_turn":true}'),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG.keys())
async def test_a_server_that_answers_wrongly_fails_with_exit_code_1(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> None:
    async with wrong_server(answer) as url:
        result = await checked(url)
    assert result.exit_code == 1, result.exception
    assert isinstance(result.exception, SystemExit)
    states = rows(result)
    assert states.pop(0) == ("v2", "file", "works")
    assert {protocol for protocol, _, _ in states} == set(OVER_HTTP)
    assert {state for _, _, state in states} == {"fails"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"[1]\n",
        b'{"type":"error"}\n',
        b'{"type":"transcript","data_length":99}\n{',
        b'{"type":"transcript","data_length":-1}\n',
        b'{"type":"transcript","data_length":"1"}\n',
        b'{"type":"transcript","data_length":3}\n[1]',
        b"\xff\n",
    ],
    ids=repr,
)
async def test_a_port_of_wyoming_that_answers_wrongly_fails(data: bytes) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    ports = {"wyoming": server.sockets[0].getsockname()[1]}
    async with server, wrong_server(missing, info={"dialects": ["wyoming"], "ports": ports}) as url:
        found = [attempt async for attempt in attempts(url, None)]
    assert [(attempt.dialect, bool(attempt.problem)) for attempt in found] == [("v2", False), ("wyoming", True)]


@pytest.mark.parametrize("feed", [b"", b"data: [1]\n", b"data: {\n", b'data: {"type":"segment"}\n'], ids=repr)
async def test_a_feed_of_calls_that_is_wrong_fails(feed: bytes) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    ports = {"calls": server.sockets[0].getsockname()[1]}
    answer = saying(b": listening\n" + feed)
    async with server, wrong_server(answer, info={"dialects": ["calls"], "ports": ports}) as url:
        _, attempt = [attempt async for attempt in attempts(url, None)]
    assert attempt.tried == "AudioSocket"
    assert attempt.problem


INFOS = [
    [],
    7,
    "x",
    {},
    {"dialects": 5},
    {"dialects": None},
    {"dialects": [], "ports": 7},
    {"dialects": [], "ports": {"a": "b"}},
]


@pytest.mark.parametrize("info", INFOS, ids=json.dumps)
async def test_another_server_than_ours_is_one_line_and_exit_code_2(info: Any) -> None:
    async with wrong_server(missing, info=info) as url:
        result = await checked(url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(rf"error: {url}: expected a Streamer server, got .*\n", result.stderr)


@pytest.mark.parametrize("scheme", ["http://", "ws://", ""])
async def test_a_server_that_is_not_there_is_one_line_and_exit_code_2(scheme: str) -> None:
    with free_port() as port:
        result = await checked(f"{scheme}127.0.0.1:{port}/")
    assert (result.exit_code, result.stdout) == (2, "")
    line = rf"error: http://127\.0\.0\.1:{port}: expected a Streamer server, got Client\w+: Cannot connect .*\n"
    assert re.fullmatch(line, result.stderr)


@pytest.mark.parametrize("url", ["", "http://", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_is_one_line_and_exit_code_2(url: str) -> None:
    result = await checked(url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"error: .*: expected a Streamer server, got .*\n", result.stderr)
