"""The Realtime API on a real socket: credentials, faults, the end of a connection, and the same words as over v2."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from streamer.access import new_key
from streamer.app import App
from streamer.errors import ErrorCode
from streamer.testing import ScriptedEngine
from tests.dialects.openai_serving import openai_serving, recogniser, silence, speech
from tests.transports.serving import dialled, events

PATH = "/v1/realtime?intent=transcription"
RATE = 24_000
VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 600, "silence_duration_ms": 500}
UTTERANCES = (0.5, 1.6), (1.5, 2.1), (1.5, 0.0)
"""Seconds of silence and of speech."""
TEXTS = ["Word1 word2 word3 word4.", "Word1 word2 word3 word4 word5."]


def spoken(rate: int = RATE) -> bytes:
    return b"".join(silence(quiet, rate) + speech(loud, rate) for quiet, loud in UTTERANCES)


def appended(audio: bytes) -> dict[str, str]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()}


@asynccontextmanager
async def session(app: App, path: str = PATH, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A connection that has been greeted."""
    async with dialled(app, path, **options) as socket:
        assert (await socket.receive_json())["type"] == "session.created"
        yield socket


async def say(socket: aiohttp.ClientWebSocketResponse, audio: bytes) -> None:
    for at in range(0, len(audio), 4_800):
        await socket.send_json(appended(audio[at : at + 4_800]))


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """All events up to and with the `count`-th whose type ends so."""
    heard: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while sum(event["type"].endswith(kind) for event in heard) < count:
            heard.append(await socket.receive_json())
    return heard


async def transcripts(app: App, audio: bytes, count: int = 2) -> list[str]:
    async with session(app) as socket:
        await say(socket, audio)
        heard = await until(socket, ".completed", count)
    return [event["transcript"] for event in heard if event["type"].endswith(".completed")]


async def test_turns_are_transcribed_and_nothing_is_left_behind() -> None:
    async with openai_serving() as app:
        assert await transcripts(app, spoken()) == TEXTS
        await app.connections.wait_empty()
        assert app.admission.active == 0
        assert app.memory.used == 0


async def test_the_words_are_those_of_v2() -> None:
    vad = {
        "positive_speech_threshold": 0.5,
        "negative_speech_threshold": 0.35,
        "pre_speech_pad_ms": 600,
        "redemption_time_ms": 500,
    }
    start = {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": RATE, "channels": 1}, "vad": vad}
    async with openai_serving() as app:
        over_realtime = await transcripts(app, spoken())
        async with dialled(app, "/api/v2/segmented") as socket:
            await socket.send_json(start)
            await socket.send_bytes(spoken())
            await socket.send_json({"type": "stop"})
            heard = await events(socket)
    assert [event["output"]["text"] for event in heard if event["type"] == "segment"] == over_realtime


@pytest.mark.parametrize(
    "query", ["", "?model=scripted", "?intent=transcription", "?model=gpt-4o&intent=transcription"]
)
async def test_every_clients_address_is_served(query: str) -> None:
    async with openai_serving() as app, session(app, f"/v1/realtime{query}") as socket:
        ignored = socket._response.headers.get("X-Streamer-Ignored")
        assert ignored == ("model" if "gpt-4o" in query else None)


async def test_a_call_is_refused_with_the_parameter() -> None:
    async with openai_serving() as app:
        status, error = await refusal(app, "/v1/realtime?call_id=rtc_1")
    assert (status, error["param"]) == (400, "call_id")


async def test_the_beta_is_greeted_in_its_words() -> None:
    async with openai_serving() as app:
        for options in (
            {"headers": {"OpenAI-Beta": "realtime=v1"}},
            {"protocols": ["realtime", "openai-beta.realtime-v1"]},
        ):
            async with dialled(app, PATH, **options) as socket:
                assert (await socket.receive_json())["type"] == "transcription_session.created"


# Credentials ------------------------------------------------------------------------------------


async def refusal(app: App, path: str = PATH, **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and the error of a refused upgrade."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **options.pop("headers", {}),
    }
    async with aiohttp.ClientSession() as http, http.get(app.url + path, headers=headers) as answer:
        return answer.status, (await answer.json())["error"]


async def test_a_wrong_key_is_refused_before_the_upgrade_in_openais_shape() -> None:
    _, kept = new_key("tests")
    async with openai_serving(access={"keys": str(kept)}) as app:
        for headers in ({}, {"Authorization": "Bearer sk-wrong"}, {"api-key": "wrong"}):
            status, error = await refusal(app, headers=headers)
            assert (status, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")


async def test_a_key_comes_in_a_header_or_a_subprotocol() -> None:
    secret, kept = new_key("tests")
    carried: list[dict[str, Any]] = [
        {"headers": {"Authorization": f"Bearer {secret}"}},
        {"headers": {"api-key": secret}},
        {"protocols": ["realtime", f"openai-insecure-api-key.{secret}"]},
    ]
    async with openai_serving(access={"keys": str(kept)}) as app:
        for options in carried:
            async with session(app, **options) as socket:
                assert socket.protocol == ("realtime" if "protocols" in options else None)


# Faults -----------------------------------------------------------------------------------------


async def test_bad_events_are_answered_and_the_session_goes_on() -> None:
    bad = ["{", '{"type":"response.create","event_id":"mine"}', '{"type":"input_audio_buffer.append","audio":"###"}']
    async with openai_serving() as app, session(app) as socket:
        for frame in bad:
            await socket.send_str(frame)
        await socket.send_bytes(b"RIFF")
        errors = [(await socket.receive_json())["error"] for _ in range(4)]
        await say(socket, spoken())
        heard = await until(socket, ".completed", 2)
    assert {error["type"] for error in errors} == {"invalid_request_error"}
    assert [error["event_id"] for error in errors] == [None, "mine", None, None]
    assert [error["param"] for error in errors] == [None, "type", "audio", None]
    assert [event["transcript"] for event in heard if event["type"].endswith(".completed")] == TEXTS


@pytest.mark.parametrize(
    ("code", "name", "number"),
    [
        (ErrorCode.TOKEN_EXPIRED, "token_expired", 1001),
        (ErrorCode.IDLE_TIMEOUT, "idle_timeout", 1001),
        (ErrorCode.STREAM_TOO_LONG, "session_expired", 1001),
        (ErrorCode.MODEL_ERROR, "model_error", 1011),
        (ErrorCode.OVERLOADED, "server_overloaded", 1013),
        (ErrorCode.RATE_LIMITED, "rate_limit_exceeded", 1008),
    ],
)
async def test_a_session_that_is_ended_gets_an_error_and_then_a_close_of_its_kind(
    code: ErrorCode, name: str, number: int
) -> None:
    async with openai_serving() as app, session(app) as socket:
        app.connections.close_all(code, "the reason")
        [error] = [event["error"] for event in await events(socket)]
        assert (error["code"], error["message"], socket.close_code) == (name, "the reason", number)


async def test_a_message_that_is_too_long_closes_the_connection() -> None:
    async with openai_serving() as app, session(app) as socket:
        await socket.send_json(appended(bytes(1024 * 1024)))
        await events(socket)
        assert socket.close_code == 1009
        await app.connections.wait_empty()
        assert app.memory.used == 0


async def test_a_long_append_is_taken() -> None:
    async with openai_serving() as app, session(app) as socket:
        await socket.send_json({"type": "session.update", "session": {"turn_detection": None}})
        await socket.send_json(appended(spoken()[:700_000]))
        await socket.send_json({"type": "input_audio_buffer.commit"})
        heard = await until(socket, ".completed")
    assert heard[-1]["transcript"].startswith("Word1")


async def test_a_client_that_floods_with_errors_is_slowed_and_then_closed() -> None:
    limits = {"max_control_share": 1e-6}
    async with openai_serving(limits=limits) as app, session(app) as socket:

        async def flood() -> None:
            for _ in range(100_000):
                await socket.send_str("{")

        flooding = asyncio.create_task(flood())
        heard = await events(socket)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        assert socket.close_code == 1008
    assert heard[-1]["error"]["code"] == "rate_limit_exceeded"


async def test_a_server_that_drains_completes_what_was_said_and_closes_with_1012() -> None:
    async with openai_serving() as app, session(app) as socket:
        await say(socket, silence(0.5, RATE) + speech(1.6, RATE))
        await until(socket, ".speech_started")
        app.connections.drain(60.0)
        await app.connections.finish(0.0)
        heard = await events(socket)
        assert socket.close_code == 1012
    assert [event["transcript"] for event in heard if event["type"].endswith(".completed")] == [TEXTS[0]]
    assert [event for event in heard if event["type"] == "error"] == []


async def test_a_full_server_refuses_before_the_upgrade_with_the_time_to_wait() -> None:
    async with openai_serving(server={"max_sessions": 1}) as app:
        with app.admission.acquire():
            status, error = await refusal(app)
            assert (status, error["code"], error["type"]) == (503, "server_overloaded", "server_error")
        assert await transcripts(app, spoken()) == TEXTS


async def test_a_client_that_vanishes_leaves_nothing() -> None:
    parts = recogniser()
    engine = parts.engine
    assert isinstance(engine, ScriptedEngine)
    engine.is_holding = True
    async with openai_serving(parts) as app:
        async with session(app) as socket:
            await say(socket, spoken())
            await until(socket, ".committed")
            connection = socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()
        async with asyncio.timeout(60):
            await app.connections.wait_empty()
        assert app.admission.active == 0
        assert app.memory.used == 0


async def test_a_client_may_be_silent_for_minutes() -> None:
    async with openai_serving(limits={"idle_timeout_s": 0.2, "start_timeout_s": 0.2}) as app:
        [settings] = [each.settings for each in app.dialects.endpoints if each.path == "/v1/realtime"]
    assert (settings.limits.idle_timeout_s, settings.limits.start_timeout_s) == (600, 600)


async def test_parameters_without_effect_are_refused_if_the_operator_says_so() -> None:
    async with openai_serving(dialects={"unsupported_parameters": "refuse"}) as app:
        status, error = await refusal(app, "/v1/realtime?colour=red")
        assert (status, error["param"]) == (400, "colour")
        async with session(app, "/v1/realtime?model=scripted"):
            pass


async def test_a_dialect_that_is_turned_off_is_not_there() -> None:
    async with openai_serving(dialects={"serve": "none"}) as app, aiohttp.ClientSession() as http:
        for path in ("/v1/realtime", "/v1/models", "/v1/audio/transcriptions"):
            async with http.get(app.url + path) as answer:
                assert answer.status == 404
