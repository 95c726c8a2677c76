"""Rows 8 to 18 of the fault table over Deepgram's paths: a client that does wrong hears so, and harms no other one."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest

from streamer.app import App
from tests.dialects.stage import GAP, TONE, transcribing
from tests.faults.raw import frame as raw_frame
from tests.transports.serving import dialled, serving

PATHS = ("/v1/listen", "/v2/listen")
RAW = "encoding=linear16&sample_rate=16000"
CLOSE = '{"type":"CloseStream"}'
COMPLAINT = {"/v1/listen": ("variant", "SchemaError"), "/v2/listen": ("code", "UNPARSABLE_CLIENT_MESSAGE")}
TEXTS = [
    "hello",
    "UklGRgAAAABXQVZF",
    '"' + "A" * 400 + '"',
    "",
    "{",
    '{"type":"CloseStream"',
    "[" * 4_000,
    '{"type":' * 1_500,
    '{"type":"Start"}',
    '{"type":1e400}',
    '{"type":"\\ud800"}',
    '{"type":"Configure","keyterms":' + "1" * 400 + "}",
    '{"type":null}',
    "nul\0l",
]
both = pytest.mark.parametrize("path", PATHS)


@asynccontextmanager
async def beside(app: App, path: str) -> AsyncIterator[None]:
    """A healthy stream, which hears what it would hear alone."""
    async with dialled(app, f"{path}?{RAW}") as socket:
        await socket.send_bytes(TONE)
        yield
        await socket.send_bytes(GAP)
        await socket.send_str(CLOSE)
        assert final_texts(await heard(socket)) == ["Number 1."]
        assert socket.close_code == 1000
    await app.connections.wait_empty()
    assert app.admission.active == 0


async def heard(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    return [json.loads(message.data) async for message in socket if message.type is aiohttp.WSMsgType.TEXT]


def final_texts(messages: list[dict[str, Any]]) -> list[str]:
    """Transcripts, over either path."""
    ends = [message["transcript"] for message in messages if message.get("event") == "EndOfTurn"]
    return ends + [
        message["channel"]["alternatives"][0]["transcript"] for message in messages if message.get("is_final")
    ]


@both
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
async def test_text_that_is_no_message_is_told_and_loses_no_audio(path: str, text: str) -> None:
    name, value = COMPLAINT[path]
    async with serving(transcribing()) as app, beside(app, path), dialled(app, f"{path}?{RAW}") as socket:
        await socket.send_bytes(TONE)
        await socket.send_str(text)
        await socket.send_bytes(GAP)
        await socket.send_str(CLOSE)
        messages = await heard(socket)
        assert [message[name] for message in messages if name in message] == [value]
        assert final_texts(messages) == ["Number 1."]
        assert socket.close_code == 1000


async def test_of_two_keys_of_one_name_the_last_one_counts() -> None:
    async with serving(transcribing()) as app, dialled(app, f"/v1/listen?{RAW}") as socket:
        await socket.send_str('{"type":"Finalize","channel":7,"channel":0}')
        await socket.send_str(CLOSE)
        assert [message.get("from_finalize") for message in await heard(socket)] == [True, None]


@both
async def test_a_control_message_past_the_limit_is_too_big(path: str) -> None:
    async with serving(transcribing()) as app, beside(app, path), dialled(app, f"{path}?{RAW}") as socket:
        await socket.send_str(json.dumps({"type": "CloseStream", "more": "x" * 17_000}))
        await heard(socket)
        assert socket.close_code == 1009


@both
async def test_text_that_is_not_utf_8_ends_the_stream(path: str) -> None:
    async with serving(transcribing()) as app, beside(app, path), dialled(app, f"{path}?{RAW}") as socket:
        transport = socket.get_extra_info("socket")
        assert transport is not None
        writer = socket._writer.transport  # aiohttp sends no such text by itself
        assert writer is not None
        writer.write(raw_frame(0x1, b"\xff\xfe"))
        await heard(socket)
        assert socket.close_code == 1007


@both
async def test_bytes_one_at_a_time_are_the_same_audio(path: str) -> None:
    async with serving(transcribing()) as app, beside(app, path), dialled(app, f"{path}?{RAW}") as socket:
        for at in range(3_001):
            await socket.send_bytes(TONE[at : at + 1])
        await socket.send_bytes(TONE[3_001:])
        await socket.send_bytes(b"\0")  # half a sample at the end
        await socket.send_str(CLOSE)
        assert final_texts(await heard(socket)) == ["Number 1."]
        assert socket.close_code == 1000


@both
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 1e-40])
async def test_samples_that_are_no_audio_harm_nothing(path: str, value: float) -> None:
    bad = struct.pack("<f", value) * 16_000
    good = (np.frombuffer(TONE, "<i2") / 32_768).astype("<f4").tobytes()
    address = f"{path}?encoding=linear32&sample_rate=16000"
    async with serving(transcribing()) as app, beside(app, path), dialled(app, address) as socket:
        for audio in (bad, bytes(100_000), good):
            await socket.send_bytes(audio)
        await socket.send_str(CLOSE)
        assert final_texts(await heard(socket))[-1].startswith("Number")
        assert socket.close_code == 1000


@both
@pytest.mark.parametrize("name", ["channels", "sample_rate"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "true", "1000000000", "1e3", "", "%00"])
async def test_a_number_out_of_its_range_is_refused_before_the_upgrade(path: str, name: str, value: str) -> None:
    query = RAW.replace("sample_rate=16000", "") if name == "sample_rate" else RAW
    async with serving(transcribing()) as app:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="400") as caught:
            async with dialled(app, f"{path}?{query}&{name}={value}"):
                pass
        assert caught.value.headers is not None
        assert caught.value.headers["dg-error"].startswith(f"{name}: expected")
        assert app.admission.active == 0


@both
async def test_what_follows_the_close_is_ignored(path: str) -> None:
    async with serving(transcribing()) as app, beside(app, path), dialled(app, f"{path}?{RAW}") as socket:
        await socket.send_bytes(TONE)
        for frame in (CLOSE, CLOSE, '{"type":"Finalize"}', "{"):
            await socket.send_str(frame)
        await socket.send_bytes(TONE)
        assert final_texts(await heard(socket)) == ["Number 1."]
        assert socket.close_code == 1000
