"""A real recogniser: the same words from the same recording over v2, as a file, and live."""

from __future__ import annotations

import asyncio
import importlib.util

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.samples import sample
from tests.dialects.test_openai_files import form_of, posted
from tests.dialects.test_openai_realtime import appended, session, until

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None, reason="pip install moonshine-voice==0.0.73"
)
WAV_HEADER = 44


async def test_the_words_are_the_same_over_v2_as_a_file_and_live() -> None:
    recording = sample().read_bytes()
    settings = Settings.model_validate({"server": {"model": "moonshine:tiny-en", "port": 0}})
    async with App(settings) as app:
        async with (
            aiohttp.ClientSession() as http,
            http.post(app.url + "/api/v2/segmented?format=txt", data=recording) as answer,
        ):
            lines = (await answer.text()).splitlines()
        file = await posted(app, form_of(recording, response_format="text"))
        async with session(app) as socket, asyncio.timeout(120):
            turns = {"type": "server_vad", "prefix_padding_ms": 600, "silence_duration_ms": 600}
            audio = {"input": {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": turns}}
            await socket.send_json({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
            await socket.send_json(appended(recording[WAV_HEADER:] + bytes(32_000)))
            heard = await until(socket, ".completed", len(lines))
    assert len(lines) == 2
    assert file[2] == " ".join(lines) + "\n"
    assert [event["transcript"] for event in heard if event["type"].endswith(".completed")] == lines
