"""Deepgram's `/v1/listen` on a real socket: handshakes, refusals and closes, as its clients know them."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import urlencode

import aiohttp
import numpy as np
import pytest

from streamer.access import mint, new_key, new_secret
from streamer.access.tokens import Claims, parse_secrets
from streamer.app import App
from streamer.errors import Overloaded
from streamer.testing import ScriptedEngine
from tests.dialects.deepgram import RAW, finals, of_type, texts
from tests.dialects.stage import GAP, TONE, transcribing
from tests.transports.serving import dialled, serving

KEY, KEPT = new_key("somebody")
CLOSE = '{"type":"CloseStream"}'


def path(**query: str) -> str:
    return "/v1/listen?" + urlencode(query or RAW)


@asynccontextmanager
async def listening(**sections: Any) -> AsyncIterator[App]:
    async with serving(transcribing(), **sections) as app:
        yield app


async def heard(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in socket if message.type is aiohttp.WSMsgType.TEXT]


async def refused(app: App, address: str, **options: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of a handshake that is refused."""
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers = {**upgrade, "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **options.pop("headers", {})}
    async with aiohttp.ClientSession() as http, http.get(app.url + address, headers=headers, **options) as response:
        lower = {name.lower(): value for name, value in response.headers.items()}
        return response.status, await response.json(), lower


async def test_a_stream_ends_with_metadata_of_the_request_and_code_1000() -> None:
    async with listening() as app, dialled(app, path(**RAW, model="nova-3", smart_format="true")) as socket:
        for frame in (TONE, GAP, TONE):
            await socket.send_bytes(frame)
        await socket.send_str(CLOSE)
        messages = await heard(socket)
        answer = socket._response.headers
        assert texts(finals(messages)) == ["Number 1.", "Number 2."]
        assert messages[-1]["request_id"] == answer["dg-request-id"]
        assert answer["X-Streamer-Ignored"] == "model, smart_format"
        assert socket.close_code == 1000


@pytest.mark.parametrize("offered", [["token", "KEY"], ["bearer", "KEY", "x-deepgram-session-id", "1"]])
async def test_a_browser_gets_the_first_of_the_subprotocols_by_which_it_sends_its_key(offered: list[str]) -> None:
    protocols = [KEY if word == "KEY" else word for word in offered]
    async with (
        listening(access={"keys": [str(KEPT)]}) as app,
        dialled(app, path(), protocols=protocols) as socket,
    ):
        assert socket.protocol == offered[0]


@pytest.mark.parametrize("scheme", ["Token", "bearer", "Bearer", "token"])
async def test_a_key_is_a_token_or_a_bearer_token(scheme: str) -> None:
    async with (
        listening(access={"keys": [str(KEPT)]}) as app,
        dialled(app, path(), headers={"Authorization": f"{scheme} {KEY}"}) as socket,
    ):
        await socket.send_str(CLOSE)
        assert [message["type"] for message in await heard(socket)] == ["Metadata"]


@pytest.mark.parametrize("header", ["Token wrong", "Basic eDp5", "sk_wrong", "Token "])
async def test_a_wrong_key_is_refused_before_the_upgrade(header: str) -> None:
    async with listening(access={"keys": [str(KEPT)]}) as app:
        status, body, headers = await refused(app, path(), headers={"Authorization": header})
        assert (status, body["err_code"]) == (401, "INVALID_AUTH")
        assert body["request_id"] == headers["dg-request-id"]
        assert headers["dg-error"] == body["err_msg"]
        assert app.admission.active == 0


async def test_a_token_opens_a_stream_once_and_while_it_is_valid(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(new_secret())
    [secret] = parse_secrets(secrets.read_text())
    now = int(time())
    once = mint(Claims("somebody", "1", now, now + 60, once=True), secret)
    late = mint(Claims("somebody", "2", now - 60, now - 1), secret)
    async with listening(access={"token_secrets_file": str(secrets)}) as app:
        async with dialled(app, path(), headers={"Authorization": f"bearer {once}"}) as socket:
            await socket.send_str(CLOSE)
            assert [message["type"] for message in await heard(socket)] == ["Metadata"]
        for token in (once, late):
            status, body, _ = await refused(app, path(), headers={"Authorization": f"bearer {token}"})
            assert (status, body["err_code"]) == (401, "INVALID_AUTH")
        status, _, _ = await refused(app, path())
        assert status == 401


async def test_a_page_of_another_origin_is_refused() -> None:
    async with listening() as app:
        status, body, _ = await refused(app, path(), headers={"Origin": "https://example.org"})
        assert (status, body["err_code"]) == (403, "INSUFFICIENT_PERMISSIONS")


async def test_a_wrong_query_is_refused_with_the_name_of_the_parameter() -> None:
    async with listening() as app:
        status, body, headers = await refused(app, path(**RAW, channels="zwölf"))
        assert (status, body["err_code"]) == (400, "Bad Request")
        assert body["err_msg"] == "channels: expected an integer from 1 to 8, got 'zwölf'"
        assert headers["dg-error"] == "channels: expected an integer from 1 to 8, got 'zw?lf'"
        status, body, _ = await refused(app, path(**RAW, redact="pci"))
        assert (status, body["err_msg"].partition(":")[0]) == (400, "redact")


async def test_parameters_without_effect_are_refused_by_a_server_that_is_strict() -> None:
    async with listening(dialects={"unsupported_parameters": "refuse"}) as app:
        status, body, _ = await refused(app, path(**RAW, model="nova-3", numerals="true"))
        assert (status, body["err_msg"].partition(":")[0]) == (400, "numerals")


async def test_a_server_without_room_and_one_that_ends_answer_503() -> None:
    parts = transcribing()
    assert isinstance(parts.engine, ScriptedEngine)
    async with serving(parts) as app:
        parts.engine.refuse_admission = Overloaded("the model is busy", retry_after_s=1.5)
        status, body, headers = await refused(app, path())
        assert (status, body["err_code"], headers["retry-after"]) == (503, "SERVICE_UNAVAILABLE", "2")
        parts.engine.refuse_admission = None
        app.admission.draining = True
        status, body, _ = await refused(app, path())
        assert (status, body["err_code"]) == (503, "SERVICE_UNAVAILABLE")


async def test_a_drain_sends_the_results_and_metadata_and_asks_to_come_again() -> None:
    async with listening() as app, dialled(app, path(**RAW, interim_results="true")) as socket:
        await socket.send_bytes(TONE)
        assert not (await socket.receive_json())["is_final"]
        app.connections.drain(25.0)
        await app.connections.finish(0.0)
        messages = [message for message in await heard(socket) if message.get("is_final", True)]
        assert [message["type"] for message in messages] == ["Results", "Metadata"]
        assert messages[0]["speech_final"]
        assert socket.close_code == 1012


async def test_a_client_that_says_nothing_is_closed_as_the_service_does() -> None:
    async with listening(limits={"idle_timeout_s": 0.2}) as app, dialled(app, path()) as socket:
        messages = []
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            messages.append(json.loads(message.data))
        assert [message["variant"] for message in messages] == ["IdleTimeout"]
        assert (message.data, message.extra) == (1011, "NET-0001")


@pytest.mark.parametrize(
    ("query", "frame", "code", "reason", "variant"),
    [
        ({}, b"certainly no audio at all, in no container", 1008, "DATA-0000", "InvalidFormat"),
        ({"encoding": "flac"}, b"RIFF" + bytes(400), 1008, "DATA-0000", "InvalidFormat"),
        (RAW, b"\0" * 3_000_000, 1009, "message_too_big", None),
    ],
)
async def test_what_is_no_audio_ends_the_stream(
    query: dict[str, str], frame: bytes, code: int, reason: str, variant: str | None
) -> None:
    address = "/v1/listen?" + urlencode(query)
    async with listening() as app, dialled(app, address) as socket:
        await socket.send_bytes(frame)
        await socket.send_str(CLOSE)
        messages = []
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            messages.append(json.loads(message.data))
        assert [each.get("variant") for each in messages] == ([variant] if variant else [])
        assert (message.data, message.extra) == (code, reason)


async def test_a_client_that_vanishes_leaves_nothing() -> None:
    parts = transcribing()
    async with serving(parts) as app:
        async with dialled(app, path(**RAW, interim_results="true")) as socket:
            await socket.send_bytes(TONE)
            await socket.receive_json()
            assert socket._response.connection is not None
            assert socket._response.connection.transport is not None
            socket._response.connection.transport.abort()
        await app.connections.wait_empty()
        assert app.admission.active == 0
        assert isinstance(parts.engine, ScriptedEngine)
        assert not parts.engine.jobs


async def test_text_that_cannot_be_read_ends_nothing() -> None:
    async with listening() as app, dialled(app, path()) as socket:
        for frame in ("hello", '{"type":"Reticulate"}', "[]"):
            await socket.send_str(frame)
        await socket.send_bytes(TONE)
        await socket.send_str(CLOSE)
        messages = await heard(socket)
        assert [error["variant"] for error in of_type(messages, "Error")] == ["SchemaError"] * 3
        assert len(finals(messages)) == 1
        assert socket.close_code == 1000


async def test_a_flood_of_text_that_cannot_be_read_is_slowed_down_and_ended() -> None:
    limits = {"max_control_share": 0.0001}
    async with listening(limits=limits) as app, dialled(app, path()) as socket:
        reader = asyncio.create_task(heard(socket))
        for _ in range(100_000):
            if reader.done():
                break
            await socket.send_str("{")
        messages = await reader
        assert messages[-1]["variant"] == "RateLimited"
        assert socket.close_code == 1008


def wav(channels: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(np.repeat(np.frombuffer(TONE + GAP, "<i2"), channels).tobytes())
    return file.getvalue()


async def test_a_container_is_found_out_and_needs_no_format() -> None:
    for query, indexes in (({}, [[0, 1]]), ({"multichannel": "true", "channels": "2"}, [[0, 2], [1, 2]])):
        async with listening() as app, dialled(app, "/v1/listen?" + urlencode(query)) as socket:
            audio = wav(2)
            for at in range(0, len(audio), 4_000):
                await socket.send_bytes(audio[at : at + 4_000])
            await socket.send_str(CLOSE)
            messages = await heard(socket)
            assert [final["channel_index"] for final in finals(messages)] == indexes
            assert messages[-1]["duration"] == 2.5


async def test_dialects_are_not_served_for_a_model_without_transcripts() -> None:
    async with serving() as app:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            async with dialled(app, path()):
                pass
