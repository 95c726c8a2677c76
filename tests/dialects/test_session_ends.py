"""How the end of a session is counted: as stopped if the client ended it as its protocol intends, else as gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from streamer.app import App
from tests.dialects import test_assemblyai, test_calls, test_wyoming
from tests.dialects.openai_serving import client_of, openai_serving, speech
from tests.dialects.recogniser import conversation, dialect_server, sentence
from tests.dialects.test_openai_realtime import say, session
from tests.transports.serving import dialled


@asynccontextmanager
async def ending(app: App, reason: str, transport: str = "websocket") -> AsyncIterator[None]:
    """The one session of the body is counted with this reason."""
    yield
    async with asyncio.timeout(10):
        while not (reasons := reasons_of(app, transport)):  # it may not have begun when its client is gone already
            await asyncio.sleep(0.01)
    assert reasons == {reason: 1}


def reasons_of(app: App, transport: str) -> dict[str, float]:
    """Return the number of ended sessions by reason."""
    return {
        sample.labels["reason"]: sample.value
        for metric in app.registry.collect()
        for sample in metric.samples
        if sample.name == "streamer_sessions_closed_total" and sample.labels["transport"] == transport and sample.value
    }


def vanish(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Cut a connection without a close frame."""
    connection = socket._response.connection
    assert connection is not None
    assert connection.transport is not None
    connection.transport.abort()  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_realtime_client_stops_by_closing(code: int) -> None:
    async with openai_serving() as app, ending(app, "stopped"), session(app) as socket:
        await say(socket, speech(1.0, 24_000))
        await socket.close(code=code)


async def test_the_official_realtime_client_stops_by_closing() -> None:
    async with (
        openai_serving() as app,
        ending(app, "stopped"),
        client_of(app) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        assert (await connection.recv()).type == "session.created"


@pytest.mark.parametrize("code", [1011, 3000])
async def test_a_realtime_client_that_closes_with_an_error_is_gone(code: int) -> None:
    async with openai_serving() as app, ending(app, "gone"), session(app) as socket:
        await socket.close(code=code)


async def test_a_realtime_client_that_vanishes_is_gone() -> None:
    async with openai_serving() as app, ending(app, "gone"), session(app) as socket:
        vanish(socket)


async def test_a_wyoming_client_stops_by_closing_after_its_command() -> None:
    async with test_wyoming.wyoming_server() as app, ending(app, "stopped", "tcp"), test_wyoming.called(app) as caller:
        await caller.speak(conversation())
        await caller.send("audio-stop")
        await test_wyoming.heard_until_stop(caller)


async def test_a_wyoming_client_that_closes_within_a_command_is_gone() -> None:
    async with test_wyoming.wyoming_server() as app, ending(app, "gone", "tcp"), test_wyoming.called(app) as caller:
        await caller.speak(conversation())


async def test_a_hang_up_and_the_end_of_its_connection_stop_a_call() -> None:
    for hangs_up in (True, False):
        async with (
            test_calls.call_server() as app,
            ending(app, "stopped", "tcp"),
            test_calls.asterisk(app) as writer,
        ):
            test_calls.ring(writer)
            test_calls.speak(writer, sentence(1, rate=8_000))
            if hangs_up:
                writer.write(b"\0\0\0")
            await writer.drain()


async def test_a_vosk_client_stops_by_its_message_only() -> None:
    for frame, reason in (('{"eof" : 1}', "stopped"), ('{"config": {"words": 1}}', "gone")):
        async with dialect_server("vosk") as app, ending(app, reason), dialled(app, "/") as socket:
            await socket.send_bytes(sentence(1))
            await socket.receive()
            await socket.send_str(frame)
            if reason == "stopped":
                assert [message async for message in socket]


async def test_an_assemblyai_client_that_closes_without_its_message_is_gone() -> None:
    async with dialect_server("assemblyai") as app, ending(app, "gone"), test_assemblyai.dialled(app) as socket:
        await socket.receive()


async def test_a_native_client_that_closes_without_its_message_is_gone() -> None:
    async with openai_serving() as app, ending(app, "gone"), dialled(app, "/api/v2/segmented") as socket:
        await socket.send_json(
            {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}}
        )
        await socket.receive()
