"""Which of several models a client of another service gets: the one that it names, if there is one of that name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.connection.hosted_model import ModelState
from streamer.protocols.opening import Opening
from streamer.samples import sample
from streamer.transports.handshake import IGNORED_HEADER
from tests.dialects.test_assemblyai import finals
from tests.dialects.test_assemblyai import spoken as spoken_to_assemblyai
from tests.dialects.test_openai_files import error_of, form_of, posted
from tests.dialects.test_openai_realtime import appended, until
from tests.transports.serving import dialled
from tests.transports.several import until as condition

WAV = sample().read_bytes()
PCM = WAV[44:] + bytes(32_000)
RECOGNISER = "tests.dialects.named_recognisers:Recogniser"
ENGLISH = {"model": RECOGNISER, "name": "english"}
ANY = {"model": RECOGNISER, "name": "any", "sample_rate": 8_000, "known_options": ["task", "language"]}
RAW = "encoding=linear16&sample_rate=16000"


def by_language(opening: Opening) -> str | None:
    return "any" if "de" in (opening.path.rpartition("/")[2], dict(opening.query).get("language")) else None


@asynccontextmanager
async def serving(models: dict[str, Any] | None = None, **server: Any) -> AsyncIterator[App]:
    models = models or {"english": ENGLISH, "any": ANY}
    settings = Settings.model_validate(
        {"models": models, "server": {"port": 0, **server}, "dialects": {"serve": ["all"], "wyoming_port": -1}}
    )
    async with App(settings) as app:
        yield app


async def live_deepgram(app: App, query: str, path: str = "/v1/listen") -> tuple[list[dict[str, Any]], str]:
    """All results, and the header that names what is ignored."""
    async with dialled(app, f"{path}?{RAW}&{query}") as socket:
        await socket.send_bytes(PCM)
        await socket.send_json({"type": "CloseStream"})
        ignored = socket._response.headers.get(IGNORED_HEADER, "")
        return [json.loads(each.data) async for each in socket], ignored


def heard(messages: list[dict[str, Any]]) -> set[str]:
    texts = [each["channel"]["alternatives"][0]["transcript"] for each in messages if each["type"] == "Results"]
    return set(texts) - {""}


@pytest.mark.parametrize(("query", "said", "ignored"), [
    ("model=any", "This is any.", ""),
    ("model=english", "This is english.", ""),
    ("model=nova-3", "This is english.", "model"),
    ("punctuate=true", "This is english.", "punctuate"),
])  # fmt: skip
async def test_a_live_client_of_deepgram_names_a_model(query: str, said: str, ignored: str) -> None:
    async with serving() as app:
        messages, named = await live_deepgram(app, query)
    assert heard(messages) == {said}
    assert named == ignored
    [metadata] = [each for each in messages if each["type"] == "Metadata"]
    assert metadata["duration"] == pytest.approx(len(PCM) / 32_000, abs=0.01)  # counted at the model's rate


async def test_a_client_of_flux_and_a_file_of_deepgrams_name_a_model() -> None:
    async with serving() as app, aiohttp.ClientSession() as http:
        turns, _ = await live_deepgram(app, "model=any", "/v2/listen")
        assert {each["transcript"] for each in turns if each.get("event") == "EndOfTurn"} == {"This is any."}
        for query, name in (("", "english"), ("?model=any", "any")):
            async with http.post(f"{app.url}/v1/listen{query}", data=WAV) as answer:
                [channel] = (await answer.json())["results"]["channels"]
            assert f"This is {name}." in channel["alternatives"][0]["transcript"]


async def test_a_form_of_openai_names_a_model_and_the_list_has_them_all() -> None:
    async with serving() as app, aiohttp.ClientSession() as http:
        for model, name in (("any", "any"), ("whisper-1", "english"), ("english", "english")):
            status, _, text = await posted(app, form_of(WAV, response_format="text", model=model))
            assert (status, text) == (200, f"This is {name}. This is {name}.\n")
        async with http.get(app.url + "/v1/models") as answer:
            assert [each["id"] for each in (await answer.json())["data"]] == ["english", "any"]
        async with http.get(app.url + "/v1/models/any") as answer:
            assert (await answer.json())["id"] == "any"
        async with http.get(app.url + "/v1/models/klingon") as answer:
            assert answer.status == 404
            assert "expected english or any" in (await answer.json())["error"]["message"]


async def test_a_translation_needs_a_model_that_translates() -> None:
    path = "/v1/audio/translations"
    async with serving() as app:
        assert (await posted(app, form_of(WAV, model="any"), path))[0] == 200
        status, error = await error_of(app, form_of(WAV, model="english"), path)
        assert (status, error["param"]) == (400, "model")


async def test_a_client_of_the_realtime_api_names_a_model() -> None:
    async with serving() as app:
        for query, name in (("?intent=transcription", "english"), ("?model=any", "any"), ("?model=gpt-4o", "english")):
            async with dialled(app, f"/v1/realtime{query}") as socket, asyncio.timeout(120):
                created = await socket.receive_json()
                assert created["session"]["audio"]["input"]["transcription"]["model"] == name
                audio = {"input": {"format": {"type": "audio/pcm", "rate": 16_000}}}
                await socket.send_json({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
                await socket.send_json(appended(PCM))
                said = await until(socket, ".completed", 2)
            assert {each["transcript"] for each in said if each["type"].endswith(".completed")} == {f"This is {name}."}


async def test_a_client_of_assemblyai_names_a_model() -> None:
    async with serving() as app:
        for query, name in (("", "english"), ("&speech_model=any", "any"), ("&speech_model=universal", "english")):
            async with dialled(app, f"/v3/ws?sample_rate=16000{query}") as socket:
                said = await spoken_to_assemblyai(socket, PCM)
            assert set(finals(said)) == {f"This is {name}."}


async def test_a_router_selects_for_the_clients_that_name_no_model_of_this_server() -> None:
    async with serving(router="tests.dialects.test_several_models:by_language") as app:
        for query, name in (
            ("model=nova-3&language=de", "any"),
            ("model=english&language=de", "english"),
            ("model=nova-3", "english"),
        ):
            assert heard((await live_deepgram(app, query))[0]) == {f"This is {name}."}


async def test_a_model_that_returns_no_transcripts_is_refused_by_name() -> None:
    models = {"english": ENGLISH, "counter": {"model": "tests.dialects.named_recognisers:Counter"}}
    async with serving(models) as app, aiohttp.ClientSession() as http:
        async with http.post(f"{app.url}/v1/listen?model=counter", data=WAV) as answer:
            assert answer.status == 400
            assert "expected a model that returns transcripts (english), got 'counter'" in await answer.text()
        async with http.get(app.url + "/v1/models") as answer:
            assert [each["id"] for each in (await answer.json())["data"]] == ["english"]


async def test_the_limits_and_the_life_of_the_named_model_apply() -> None:
    models = {"english": ENGLISH, "any": {**ANY, "load": "first_use", "max_sessions": 1, "load_wait_s": 300}}
    async with serving(models) as app, aiohttp.ClientSession() as http:
        assert app.models is not None
        lazy = app.models.named("any")
        assert lazy.state is ModelState.UNLOADED
        async with dialled(app, f"/v1/listen?{RAW}&model=any"):
            assert (lazy.state, lazy.sessions) == (ModelState.READY, 1)
            async with http.post(f"{app.url}/v1/listen?model=any", data=WAV) as answer:
                assert answer.status == 503
                assert "model 'any' has reached its limit of 1 sessions" in await answer.text()
            async with http.post(f"{app.url}/v1/listen?model=english", data=WAV) as answer:
                assert answer.status == 200
        await condition(lambda: lazy.sessions == 0)
        async with http.post(f"{app.url}/v1/listen?model=any", data=WAV) as answer:
            assert answer.status == 200
        await condition(lambda: lazy.sessions == 0 and app.admission.active == 0)
