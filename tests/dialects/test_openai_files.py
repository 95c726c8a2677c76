"""Files by OpenAI's API: the formats, the stream of events, and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from streamer.access import new_key
from streamer.app import App
from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.testing import ScriptedEngine
from tests.dialects.openai_serving import TWO, openai_serving, recogniser, sentence, silence, speech, wav
from tests.media.material import flac_of_silence, read

PATH = "/v1/audio/transcriptions"
TEXT = "Word1 word2 word3 word4. Word1 word2 word3 word4 word5."


def form_of(data: Any = TWO, **fields: str) -> aiohttp.FormData:
    """A form with its file first, as curl sends it."""
    form = aiohttp.FormData(default_to_multipart=True)
    if data is not None:
        form.add_field("file", data, filename="speech.wav", content_type="audio/wav")
    for name, value in fields.items():
        form.add_field(name, value)
    return form


async def posted(app: App, form: Any, path: str = PATH, **options: Any) -> tuple[int, str, str]:
    """The status, media type and text of an answer."""
    async with aiohttp.ClientSession() as http, http.post(app.url + path, data=form, **options) as answer:
        return answer.status, answer.content_type, await answer.text()


async def error_of(app: App, form: Any, path: str = PATH, **options: Any) -> tuple[int, dict[str, Any]]:
    status, kind, text = await posted(app, form, path, **options)
    assert kind == "application/json"
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "code", "param"}
    return status, error


async def test_json_has_the_text_and_the_length() -> None:
    async with openai_serving() as app:
        status, kind, text = await posted(app, form_of(model="scripted"))
        assert app.admission.active == 0
        assert app.memory.used == 0
    assert (status, kind) == (200, "application/json")
    assert json.loads(text) == {"text": TEXT, "usage": {"type": "duration", "seconds": 7}}


async def test_text_is_a_line() -> None:
    async with openai_serving() as app:
        assert await posted(app, form_of(response_format="text")) == (200, "text/plain", TEXT + "\n")


async def test_captions_have_the_times_of_the_segments() -> None:
    async with openai_serving() as app:
        status, kind, srt = await posted(app, form_of(response_format="srt"))
        _, web, vtt = await posted(app, form_of(response_format="vtt"))
    assert (status, kind, web) == (200, "application/x-subrip", "text/vtt")
    assert srt.startswith("1\n00:00:00,")
    assert [line for line in srt.splitlines() if line.startswith("Word1")] == TEXT.replace(". ", ".\n").splitlines()
    assert vtt.startswith("WEBVTT\n\n00:00:00.")


async def test_verbose_json_has_segments_and_words_as_asked() -> None:
    async with openai_serving() as app:
        plain = json.loads((await posted(app, form_of(response_format="verbose_json", language="en")))[2])
        form = form_of(response_format="verbose_json")
        form.add_field("timestamp_granularities[]", "word")
        words = json.loads((await posted(app, form))[2])
    assert (plain["text"], plain["language"], plain["task"], plain["duration"]) == (TEXT, "english", "transcribe", 7.0)
    assert [segment["text"] for segment in plain["segments"]] == ["Word1 word2 word3 word4.", TEXT[25:]]
    assert [segment["id"] for segment in plain["segments"]] == [0, 1]
    assert "words" not in plain
    assert "segments" not in words
    assert [word["word"] for word in words["words"]] == TEXT.split()
    starts = [word["start"] for word in words["words"]]
    assert starts == sorted(starts)
    assert starts[-1] > 3.0


async def test_a_stream_of_events_has_the_finals_as_deltas() -> None:
    async with openai_serving() as app:
        status, kind, text = await posted(app, form_of(stream="true"))
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert (status, kind, lines[-1]) == (200, "text/event-stream", "[DONE]")
    events = [json.loads(line) for line in lines[:-1]]
    assert "".join(event["delta"] for event in events[:-1]) == TEXT
    assert len(events) == 3
    assert events[-1] == {"type": "transcript.text.done", "text": TEXT}


async def test_the_order_of_the_fields_does_not_matter() -> None:
    form = aiohttp.FormData()
    form.add_field("response_format", "text")
    form.add_field("file", TWO, filename="speech.wav")
    form.add_field("language", "de")
    async with openai_serving() as app:
        engine = app.engine
        assert isinstance(engine, ScriptedEngine)
        assert (await posted(app, form))[2] == TEXT + "\n"
        assert {bytes(job.options) for job in engine.submitted} == {b'{"language":"de"}'}


@pytest.mark.parametrize("name", ["opus.ogg", "vbr_id3.mp3", "aac_moovend.m4a", "mediarecorder.webm", "live.flac"])
async def test_containers_are_known_by_their_bytes(name: str) -> None:
    async with openai_serving() as app:
        status, _, text = await posted(app, form_of(read(name), response_format="verbose_json"))
    assert status == 200
    assert json.loads(text)["duration"] == pytest.approx(7.1, abs=0.2)


async def test_two_channels_are_joined() -> None:
    mono = speech(1.5) + silence(1.0)
    stereo = b"".join(mono[at : at + 2] * 2 for at in range(0, len(mono), 2))
    async with openai_serving() as app:
        one = await posted(app, form_of(wav(mono)))
        assert await posted(app, form_of(wav(stereo, channels=2))) == one


async def test_silence_has_an_empty_transcript() -> None:
    async with openai_serving() as app:
        assert await posted(app, form_of(wav(silence(2)), response_format="text")) == (200, "text/plain", "\n")
        assert json.loads((await posted(app, form_of(wav(silence(2)))))[2])["text"] == ""


async def test_parameters_without_effect_are_named_in_a_header() -> None:
    async with (
        openai_serving() as app,
        aiohttp.ClientSession() as http,
        http.post(app.url + PATH, data=form_of(model="whisper-1", colour="red")) as answer,
    ):
        assert answer.headers["X-Streamer-Ignored"] == "colour, model"


async def test_parameters_without_effect_are_refused_if_the_operator_says_so() -> None:
    async with openai_serving(dialects={"unsupported_parameters": "refuse"}) as app:
        for name, value in (("colour", "red"), ("temperature", "0.5")):
            status, error = await error_of(app, form_of(**{name: value}))
            assert (status, error["param"]) == (400, name)
        assert (await posted(app, form_of(model="whisper-1", language="en")))[0] == 200


WRONG: dict[str, tuple[Any, int, str, str | None]] = {
    "no file": (form_of(None, model="m"), 400, "bad_request", "file"),
    "an empty file": (form_of(b""), 400, "bad_request", "file"),
    "a file that is no audio": (form_of(b'{"a": 1}' * 90), 400, "invalid_format", "file"),
    "a damaged file": (form_of(read("opus.webm")[:600] + bytes(100)), 400, "invalid_audio", "file"),
    "a bomb": (form_of(flac_of_silence(300)), 400, "invalid_audio", "file"),
    "an unknown format": (form_of(response_format="docx"), 400, "bad_request", "response_format"),
    "a wrong number": (form_of(temperature="hot"), 400, "bad_request", "temperature"),
    "a wrong pause": (
        form_of(chunking_strategy='{"type":"server_vad","silence_duration_ms":99999999}'),
        400,
        "bad_request",
        "chunking_strategy",
    ),
    "not a form": (b"{}", 400, "bad_request", "Content-Type"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_request_that_cannot_be_served_names_its_parameter(name: str) -> None:
    form, status, code, param = WRONG[name]
    async with openai_serving() as app:
        got, error = await error_of(app, form)
        await app.connections.wait_empty()
        assert app.admission.active == 0
        assert app.memory.used == 0
    assert (got, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"


async def test_a_file_is_bounded() -> None:
    async with openai_serving(limits={"max_spool_bytes": 20_000}) as app:
        status, error = await error_of(app, form_of())
    assert (status, error["code"]) == (413, "message_too_big")
    assert "limits.max_spool_bytes" in error["message"]


async def test_a_long_recording_is_refused() -> None:
    async with openai_serving(limits={"max_stream_s": 3}) as app:
        status, error = await error_of(app, form_of())
    assert (status, error["param"]) == (413, "file")


async def test_a_form_that_stops_in_the_middle_is_given_up() -> None:
    stopped = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await stopped.wait()

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    async with openai_serving(limits={"idle_timeout_s": 0.2}) as app:
        status, error = await error_of(app, body(), headers=headers)
        stopped.set()
        assert app.admission.active == 0
    assert (status, error["code"]) == (408, "idle_timeout")


async def test_a_segment_that_fails_is_the_whole_answer() -> None:
    """No part of a transcript is missing without notice, and a client does not send the file again."""

    def fails_second(job: Job) -> Outcome:
        return sentence(job) if job.id == 1 else JobFailed(ErrorCode.MODEL_ERROR, "the model has failed")

    async with openai_serving(recogniser(fails_second)) as app:
        async with aiohttp.ClientSession() as http, http.post(app.url + PATH, data=form_of()) as answer:
            assert (answer.status, answer.headers["X-Should-Retry"]) == (500, "false")
            assert (await answer.json())["error"]["type"] == "server_error"
        status, _, text = await posted(app, form_of(stream="true"))
    lines = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert (status, lines[0]["delta"]) == (200, "Word1 word2 word3 word4.")
    assert lines[1]["error"]["code"] == "model_error"
    assert len(lines) == 2


async def test_results_that_are_no_transcripts_are_refused() -> None:
    async with openai_serving(recogniser(lambda job: Output.of({"count": 1}))) as app:
        status, error = await error_of(app, form_of())
    assert (status, error["param"]) == (400, "model")


async def test_a_key_is_needed_if_sessions_need_one() -> None:
    secret, kept = new_key("tests")
    async with openai_serving(access={"keys": str(kept)}) as app:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            status, error = await error_of(app, form_of(), headers=headers)
            assert (status, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")
        for headers in ({"Authorization": f"Bearer {secret}"}, {"api-key": secret}):
            assert (await posted(app, form_of(), headers=headers))[0] == 200


async def test_a_request_takes_a_place_like_a_stream() -> None:
    async with openai_serving(server={"max_sessions": 1}) as app:
        with app.admission.acquire():
            async with aiohttp.ClientSession() as http, http.post(app.url + PATH, data=form_of()) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert (await answer.json())["error"]["type"] == "server_error"
        assert (await posted(app, form_of()))[0] == 200


async def test_a_drain_ends_a_file_with_an_error_and_not_with_half_a_transcript() -> None:
    parts = recogniser()
    engine = parts.engine
    assert isinstance(engine, ScriptedEngine)
    engine.is_holding = True
    async with openai_serving(parts) as app:
        answer = asyncio.ensure_future(error_of(app, form_of(wav(*[speech(1.0), silence(1.0)] * 12))))
        while not engine.jobs:
            await asyncio.sleep(0.01)
        await app.connections.finish(0.0)
        engine.is_holding = False
        engine.release_all()
        status, error = await answer
    assert (status, error["code"]) == (503, "draining")


async def test_a_client_that_goes_cancels_what_it_asked_for() -> None:
    parts = recogniser()
    engine = parts.engine
    assert isinstance(engine, ScriptedEngine)
    engine.is_holding = True
    async with openai_serving(parts) as app, aiohttp.ClientSession() as http:
        post = asyncio.ensure_future(http.post(app.url + PATH, data=form_of()))
        async with asyncio.timeout(30):
            while not engine.jobs:
                await asyncio.sleep(0.01)
            post.cancel()
            await app.connections.wait_empty()
            while app.admission.active:
                await asyncio.sleep(0.01)
        assert app.memory.used == 0


async def test_a_translation_is_a_task_of_a_model_that_translates() -> None:
    parts = recogniser()
    parts = replace(parts, model=replace(parts.model, known_options=("task",)))
    async with openai_serving(parts) as app:
        engine = app.engine
        assert isinstance(engine, ScriptedEngine)
        form = form_of(response_format="verbose_json")
        status, _, text = await posted(app, form, "/v1/audio/translations")
        assert {bytes(job.options) for job in engine.submitted} == {b'{"task":"translate"}'}
    assert status == 200
    assert (json.loads(text)["task"], json.loads(text)["language"]) == ("translate", "english")


async def test_a_translation_by_a_model_that_only_transcribes_is_refused() -> None:
    async with openai_serving() as app:
        status, error = await error_of(app, form_of(), "/v1/audio/translations")
    assert (status, error["param"]) == (400, "model")


async def test_the_list_of_models_has_the_one_that_is_served() -> None:
    async with openai_serving() as app, aiohttp.ClientSession() as http:
        async with http.get(app.url + "/v1/models") as answer:
            listed = await answer.json()
            assert listed["object"] == "list"
            assert [model["id"] for model in listed["data"]] == ["scripted"]
        async with http.get(app.url + "/v1/models/scripted") as answer:
            assert await answer.json() == listed["data"][0]
        async with http.get(app.url + "/v1/models/openai/gpt-4o") as answer:
            assert answer.status == 404
            assert (await answer.json())["error"]["code"] == "model_not_found"


async def test_the_list_of_models_needs_the_key_of_a_session() -> None:
    secret, kept = new_key("tests")
    async with openai_serving(access={"keys": str(kept)}) as app, aiohttp.ClientSession() as http:
        for path in ("/v1/models", "/v1/models/scripted"):
            async with http.get(app.url + path) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (401, "invalid_api_key")
            async with http.get(app.url + path, headers={"Authorization": f"Bearer {secret}"}) as answer:
                assert answer.status == 200
