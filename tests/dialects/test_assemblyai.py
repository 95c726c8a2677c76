"""AssemblyAI's v3 over a real socket: its own SDK, its models, and how each fault is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.errors import ErrorCode, Overloaded
from streamer.protocols.assemblyai import CODES
from streamer.session.actions import JobFailed
from streamer.testing import ScriptedEngine
from tests.dialects.recogniser import (
    SENTENCES,
    conversation,
    dialect_server,
    messages,
    native_finals,
    recognise_with_words,
    recogniser,
    sentence,
    silence,
)

SDK = "pip install assemblyai==1.8.2"
# websockets 17 deprecates the way in which the SDK opens its connection.
with_sdk = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context manager:DeprecationWarning")
TERMINATE = '{"type":"Terminate"}'


@asynccontextmanager
async def dialled(app: App, key: str | None = None, **query: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Authorization": key} if key else {}
    url = f"{app.url}/v3/ws?{urlencode({'sample_rate': 16_000, **query})}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, headers=headers) as socket:
        yield socket


async def refused(app: App, key: str | None = None, **query: Any) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of a handshake."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers |= {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="} | ({"Authorization": key} if key else {})
    async with aiohttp.ClientSession() as http, http.get(app.url + "/v3/ws", params=query, headers=headers) as response:
        return response.status, json.loads(await response.text() or "{}")


async def spoken(socket: aiohttp.ClientWebSocketResponse, audio: bytes) -> list[dict[str, Any]]:
    """Send audio and the end; return all events."""
    for piece in messages(audio, 3_200):
        await socket.send_bytes(piece)
    await socket.send_str(TERMINATE)
    return [message.json() async for message in socket]


def finals(events: list[dict[str, Any]]) -> list[str]:
    return [event["transcript"] for event in events if event["type"] == "Turn" and event["end_of_turn"]]


# With the official SDK --------------------------------------------------------------------------------


def hear_with_sdk(url: str, audio: bytes, key: str = "any", **parameters: Any) -> dict[str, list[Any]]:
    """Do as the quick start of the SDK; return its events by name."""
    v3 = pytest.importorskip("assemblyai.streaming.v3", reason=SDK)
    client = v3.StreamingClient(v3.StreamingClientOptions(api_key=key, api_host=url.replace("http", "ws", 1)))
    heard: dict[str, list[Any]] = {event.value: [] for event in v3.StreamingEvents}
    for event in v3.StreamingEvents:
        client.on(event, lambda _, message, name=event.value: heard[name].append(message))
    client.connect(v3.StreamingParameters(sample_rate=16_000, **parameters))
    if not heard["Error"]:
        client.stream(messages(audio, 3_200))
        client.disconnect(terminate=True)
    return heard


@with_sdk
async def test_the_official_client_reads_turns_and_the_termination() -> None:
    async with dialect_server("assemblyai", recogniser(recognise_with_words)) as app:
        heard = await asyncio.to_thread(hear_with_sdk, app.url, conversation(), format_turns=True)
        assert not heard["Error"]
        assert not heard["Warning"]
        assert len(heard["Begin"]) == 1
        turns = heard["Turn"]
        ends = [turn for turn in turns if turn.end_of_turn]
        assert [turn.transcript for turn in ends] == list(SENTENCES[:2])
        assert [turn.transcript for turn in ends] == await native_finals(app, conversation())
        assert [turn.turn_order for turn in ends] == [0, 1]
        assert all(turn.turn_is_formatted and turn.language_code == "en" for turn in ends)
        assert any(not turn.end_of_turn and turn.transcript == "The weather today" for turn in turns)
        assert [word.text for word in ends[0].words] == SENTENCES[0].split()
        assert all(word.start < word.end and word.word_is_final for turn in ends for word in turn.words)
        assert [event.timestamp > 0 for event in heard["SpeechStarted"]] == [False, True]
        [termination] = heard["Termination"]
        assert termination.audio_duration_seconds == 6


@with_sdk
async def test_the_official_client_is_told_of_a_wrong_key() -> None:
    secret, key = new_key("me")
    async with dialect_server("assemblyai", access={"keys": (str(key),)}) as app:
        heard = await asyncio.to_thread(hear_with_sdk, app.url, b"", "wrong")
        assert [error.code for error in heard["Error"]] == [401]
        heard = await asyncio.to_thread(hear_with_sdk, app.url, conversation(), secret)
        assert [turn.transcript for turn in heard["Turn"] if turn.end_of_turn] == list(SENTENCES[:2])


@with_sdk
async def test_the_asynchronous_client_is_told_of_a_drain_in_mid_stream() -> None:
    v3 = pytest.importorskip("assemblyai.streaming.v3", reason=SDK)
    async with dialect_server("assemblyai", drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app:
        client = v3.AsyncStreamingClient(v3.StreamingClientOptions(api_key="k", api_host=app.url.replace("http", "ws")))
        errors, turns, spoke = [], [], asyncio.Event()
        client.on(v3.StreamingEvents.Error, lambda _, error: errors.append(error))
        client.on(v3.StreamingEvents.Turn, lambda _, turn: turns.append(turn))
        client.on(v3.StreamingEvents.SpeechStarted, lambda _, event: spoke.set())
        await client.connect(v3.StreamingParameters(sample_rate=16_000))
        await client.stream(silence(0.5) + sentence(1))
        await asyncio.wait_for(spoke.wait(), 10)
        await app.drain(lag_s=0)
        async with asyncio.timeout(10):
            while not errors:
                await asyncio.sleep(0.01)
        await client.disconnect()
        assert errors[0].code == 1013
        assert [turn.transcript for turn in turns if turn.end_of_turn] == [SENTENCES[0]]


async def test_every_event_is_one_of_the_sdks_models() -> None:
    base = pytest.importorskip("assemblyai.streaming.v3._base", reason=SDK)
    async with dialect_server("assemblyai") as app, dialled(app) as socket:
        for event in await spoken(socket, conversation()):
            assert base._BaseStreamingClient._parse_message(event) is not None


# The protocol ---------------------------------------------------------------------------------------


async def test_the_session_begins_at_once_and_is_ended_by_the_client() -> None:
    async with dialect_server("assemblyai") as app, dialled(app) as socket:
        begin = await socket.receive_json(timeout=10)
        assert begin["type"] == "Begin"
        events = await spoken(socket, conversation())
        assert finals(events) == list(SENTENCES[:2])
        assert events[-1] == {"type": "Termination", "audio_duration_seconds": 6, "session_duration_seconds": 6}
        assert socket.close_code == 1000


async def test_turns_are_formatted_only_if_the_client_asks_and_partial_ones_may_be_left_out() -> None:
    async with dialect_server("assemblyai") as app, dialled(app, include_partial_turns="False") as socket:
        turns = [event for event in await spoken(socket, conversation()) if event["type"] == "Turn"]
        assert [(turn["end_of_turn"], turn["turn_is_formatted"]) for turn in turns] == [(True, False)] * 2


async def test_a_forced_endpoint_ends_the_turn_and_the_session_goes_on() -> None:
    async with dialect_server("assemblyai") as app, dialled(app, include_partial_turns="false") as socket:
        await socket.send_bytes(silence(0.3) + sentence(1))
        await socket.send_str('{"type":"ForceEndpoint"}')
        turn = await socket.receive_json(timeout=10)
        while turn["type"] != "Turn":
            turn = await socket.receive_json(timeout=10)
        assert (turn["transcript"], turn["end_of_turn"]) == (SENTENCES[0], True)
        assert finals(await spoken(socket, silence(0.3) + sentence(2))) == [SENTENCES[1]]


async def test_a_longer_silence_in_mid_stream_joins_what_was_two_turns() -> None:
    pause = silence(0.3) + sentence(1) + silence(0.8) + sentence(1) + silence()
    async with dialect_server("assemblyai") as app:
        async with dialled(app) as socket:
            assert len(finals(await spoken(socket, pause))) == 2
        async with dialled(app) as socket:
            await socket.send_str('{"type":"UpdateConfiguration","max_turn_silence":1200,"format_turns":true}')
            events = await spoken(socket, pause)
            assert len(finals(events)) == 1
            assert [event["turn_is_formatted"] for event in events if event.get("end_of_turn")] == [True]
        async with dialled(app, max_turn_silence=1_200) as socket:
            assert len(finals(await spoken(socket, pause))) == 1
        async with dialled(app, min_turn_silence=10, vad_threshold=0.9) as socket:
            assert len(finals(await spoken(socket, pause))) == 2  # 10 ms would cut between words


async def test_telephone_audio_is_heard() -> None:
    async with dialect_server("assemblyai") as app, dialled(app, encoding="pcm_mulaw", sample_rate=8_000) as socket:
        events = await spoken(socket, b"\xff" * 16_000)
        assert events[-1]["audio_duration_seconds"] == 2


async def test_parameters_without_effect_are_named() -> None:
    query = {"speech_model": "u3-rt-pro", "keyterms_prompt": '["a"]', "token": "x"}
    async with dialect_server("assemblyai") as app, dialled(app, **query) as socket:
        assert socket._response.headers["X-Streamer-Ignored"] == "speech_model, keyterms_prompt"
    async with dialect_server("assemblyai", dialects={"unsupported_parameters": "refuse"}) as app:
        status, body = await refused(app, sample_rate="16000", mode="balanced")
        assert status == 400
        assert "mode" in body["error"]


async def test_a_range_without_a_result_is_a_warning_and_the_session_goes_on() -> None:
    parts = recogniser(lambda _: JobFailed(ErrorCode.MODEL_ERROR, "the model is broken"))
    async with dialect_server("assemblyai", parts) as app, dialled(app) as socket:
        events = await spoken(socket, conversation())
        warnings = [event for event in events if event["type"] == "Warning"]
        assert warnings == [{"type": "Warning", "warning_code": 3005, "warning": "the model is broken"}] * 2
        assert events[-1]["type"] == "Termination"


# Faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "sample_rate"),
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"sample_rate": "1"}, "sample_rate"),
        ({"sample_rate": "16000", "encoding": "mp3"}, "encoding"),
        ({"sample_rate": "16000", "format_turns": "maybe"}, "format_turns"),
        ({"sample_rate": "16000", "vad_threshold": "nan"}, "vad_threshold"),
        ({"sample_rate": "16000", "max_turn_silence": "-1"}, "max_turn_silence"),
        ({"sample_rate": "16000", "max_turn_silence": "99999999"}, "max_turn_silence"),
        ({"sample_rate": "16000", "language_codes": "en"}, "language_codes"),
        ({"sample_rate": "16000", "redact_pii": "True"}, "redact_pii"),
        ({"sample_rate": "16000", "webhook_url": "https://example.org"}, "webhook_url"),
    ],
    ids=lambda value: str(value)[-40:],
)
async def test_a_wrong_parameter_is_refused_before_the_upgrade(query: dict[str, str], words: str) -> None:
    async with dialect_server("assemblyai") as app:
        status, body = await refused(app, **query)
        assert status == 400
        assert words in body["error"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("nonsense", 4100),
        ("", 4100),
        ("[" * 10_000, 4101),
        ("{}", 4101),
        ("[]", 4101),
        ('{"type":"Start"}', 4101),
        ('{"type":7}', 4101),
        ('{"type":"UpdateConfiguration","max_turn_silence":"long"}', 4101),
        ('{"type":"UpdateConfiguration","max_turn_silence":-4}', 3006),
        ('{"type":"UpdateConfiguration","filter_profanity":true}', 3006),
        ('{"type":"UpdateConfiguration","prompt":"' + "a" * 20_000 + '"}', 3007),
        (b"\0" * (1024 * 1024 + 2), 1009),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_fault_is_an_error_and_a_close_with_the_same_code(frame: str | bytes, code: int) -> None:
    async with dialect_server("assemblyai") as app, dialled(app) as socket:
        await socket.receive_json(timeout=10)
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        events = [message.json() async for message in socket]
        assert socket.close_code == code
        if code != 1009:  # the WebSocket itself refuses it
            assert [(event["type"], event["error_code"]) for event in events] == [("Error", code)]


async def test_an_overloaded_server_refuses_before_the_upgrade() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    parts.engine.refuse_admission = Overloaded("busy", retry_after_s=1.0)
    async with dialect_server("assemblyai", parts) as app:
        assert await refused(app, sample_rate="16000") == (503, {"error": "busy"})


async def test_a_silent_client_is_told_and_closed() -> None:
    async with dialect_server("assemblyai", limits={"idle_timeout_s": 0.05}) as app, dialled(app) as socket:
        events = [message.json() async for message in socket]
        assert events[-1]["error_code"] == 4031
        assert socket.close_code == 4031


async def test_a_client_that_vanishes_leaves_no_session() -> None:
    async with dialect_server("assemblyai") as app:
        async with dialled(app) as socket:
            await socket.send_bytes(sentence(1))
            connection = socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()  # type: ignore[attr-defined]
        await asyncio.wait_for(app.connections.wait_empty(), 10)


def test_every_error_has_a_code_that_a_close_may_have() -> None:
    assert set(CODES) == set(ErrorCode)
    assert all(code in (1002, 1007, 1013) or 3000 <= code < 5000 for code in CODES.values())
