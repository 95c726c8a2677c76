"""POST: the events of a stream as the answer, line by line, with the admission and the bounds of every stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from streamer.access import new_key
from streamer.app import App
from streamer.testing import ScriptedEngine
from tests.media.material import decoded, flac_of_silence, read
from tests.transports.serving import scripted, serving
from tests.transports.test_compressed import AUTO, results, said

PATH = "/api/v2/simple?chunk_ms=500"


async def posted(app: App, data: Any, path: str = PATH, **options: Any) -> tuple[int, list[dict[str, Any]]]:
    """The status and the events of an answer."""
    async with aiohttp.ClientSession() as http, http.post(app.url + path, data=data, **options) as answer:
        text = await answer.text()
        if answer.content_type == "application/json":
            return answer.status, [json.loads(text)]
        return answer.status, [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


async def in_pieces(data: bytes, size: int = 3_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("name", ["opus.ogg", "vbr_id3.mp3", "aac_faststart.m4a", "mediarecorder.webm", "live.flac"])
async def test_a_body_gives_the_events_of_the_same_audio_live(name: str) -> None:
    async with serving() as app:
        status, events = await posted(app, in_pieces(read(name)))
        live = results(await said(app, read(name), AUTO))
    assert status == 200
    assert [(e["start_time"], e["end_time"], e["output"]) for e in events if e["type"] == "segment"] == live
    assert events[0]["type"] == "started"
    assert events[-1]["type"] == "finished"
    assert events[-1]["reason"] == "stopped"


async def test_an_mp4_with_its_index_behind_is_decoded() -> None:
    async with serving() as app:
        behind = await posted(app, read("aac_moovend.m4a"))
        front = await posted(app, read("aac_faststart.m4a"))
        assert app.memory.used == 0
    assert [e for e in behind[1] if e["type"] == "segment"] == [e for e in front[1] if e["type"] == "segment"]
    assert behind[1][-1]["received"] == 340_800


async def test_a_spool_is_bounded() -> None:
    async with serving(limits={"max_spool_bytes": 20_000}) as app:
        status, [error] = await posted(app, read("aac_moovend.m4a"))
    assert (status, error["code"]) == (400, "invalid_audio")
    assert "limits.max_spool_bytes" in error["message"]


async def test_pcm_is_declared_by_the_query() -> None:
    form, pcm = decoded([read("opus.ogg")], rate=16_000)
    async with serving() as app:
        path = f"{PATH}&encoding={form.encoding}&sample_rate=16000&channels=1"
        _, events = await posted(app, in_pieces(pcm), path)
        assert (await posted(app, read("opus.ogg")))[1][-1] == events[-1]
    assert events[-1]["received"] == 113_600


async def test_events_come_as_server_sent_events_to_those_who_ask() -> None:
    async with (
        serving() as app,
        aiohttp.ClientSession(headers={"Accept": "text/event-stream"}) as http,
        http.post(app.url + PATH, data=read("opus60.ogg")) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        lines = [line async for line in answer.content]
    assert all(line.startswith(b"data: {") or line == b"\n" for line in lines)
    assert json.loads(lines[-2][6:])["type"] == "finished"


async def test_results_come_while_the_body_is_sent() -> None:
    half, rest = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        data = read("opus.ogg")
        yield data[:15_000]
        half.set()
        await rest.wait()
        yield data[15_000:]

    async with (
        serving() as app,
        aiohttp.ClientSession() as http,
        http.post(app.url + PATH, data=body()) as answer,
    ):
        first = [json.loads(await answer.content.readline()) for _ in range(3)]
        assert half.is_set()
        assert "segment" in [event["type"] for event in first]
        rest.set()
        events = [json.loads(line) async for line in answer.content]
    assert events[-1]["received"] == 113_600


WRONG = {
    "not audio": (b'{"a": 1}' * 9, "", 400, "invalid_format", "text: "),
    "a damaged file": (read("opus.webm")[:600] + bytes(100), "", 400, "invalid_audio", "no EBML element"),
    "a bomb": (flac_of_silence(300), "", 400, "invalid_audio", "250 bit/s"),
    "a parameter that is not known": (b"", "&colour=red", 400, "bad_request", "query: expected one of channels, "),
    "a number that is not one": (b"", "&channels=two", 400, "bad_request", "channels: expected an integer, got 'two'"),
    "PCM without its rate": (b"", "&encoding=mulaw", 400, "invalid_format", "format.sample_rate: expected an integer"),
    "options that are no object": (b"", "&options=3", 400, "bad_request", "options: expected a JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_cannot_be_served_is_answered_with_a_status(name: str) -> None:
    data, query, status, code, text = WRONG[name]
    async with serving() as app:
        got, [error] = await posted(app, data, f"/api/v2/segmented?{query.removeprefix('&')}")
    assert (got, error["code"]) == (status, code)
    assert text in error["message"]


async def test_a_fault_after_results_is_the_last_event() -> None:
    data = read("opus.ogg")[:15_000] + b"x" * 200_000
    async with serving() as app:
        status, events = await posted(app, in_pieces(data))
    assert status == 200
    assert events[-1]["type"] == "error"
    assert events[-1]["code"] == "invalid_audio"
    assert events[-1]["fatal"] is True


async def test_a_request_takes_a_place_like_a_stream() -> None:
    async with serving(server={"max_sessions": 1}) as app:
        with app.admission.acquire():
            async with aiohttp.ClientSession() as http, http.post(app.url + PATH, data=read("opus.ogg")) as answer:
                assert answer.status == 503
                assert "Retry-After" in answer.headers
        assert (await posted(app, read("opus.ogg")))[0] == 200
        assert app.admission.active == 0


async def test_a_key_is_needed_if_sessions_need_one() -> None:
    secret, kept = new_key("tests")
    async with serving(access={"keys": str(kept)}) as app:
        assert (await posted(app, read("opus.ogg")))[0] == 401
        assert (await posted(app, read("opus.ogg"), headers={"Authorization": f"Bearer {secret}"}))[0] == 200


async def test_a_client_that_goes_cancels_what_it_asked_for() -> None:
    parts = scripted()
    engine = parts.engine
    assert isinstance(engine, ScriptedEngine)
    engine.is_holding = True  # the model never answers
    async with serving(parts) as app, aiohttp.ClientSession() as http:
        post = asyncio.ensure_future(http.post(app.url + PATH, data=read("opus.ogg")))
        async with asyncio.timeout(30):
            while not len(app.connections):
                await asyncio.sleep(0.01)
            post.cancel()
            await app.connections.wait_empty()
        assert app.admission.active == 0
        assert app.memory.used == 0


async def test_a_long_file_waits_for_the_model_and_takes_no_memory() -> None:
    """The body is not read while the stream is 30 s ahead."""
    form, pcm = decoded([read("opus.ogg")], rate=16_000)
    taken = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            taken.append(app.memory.used)
            yield pcm

    async with serving() as app:
        path = f"{PATH}&encoding={form.encoding}&sample_rate=16000&channels=1"
        _, events = await posted(app, body(), path)
    assert events[-1]["received"] == 40 * 113_600
    assert max(taken) < 8 * 1024 * 1024
