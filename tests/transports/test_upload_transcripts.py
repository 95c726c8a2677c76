"""POST with `format`: the transcript of a file as text or captions, whole or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import pytest

from streamer.app import App
from streamer.errors import ErrorCode
from streamer.parts import AppParts
from streamer.session.actions import Job, JobFailed, Outcome, Output
from streamer.testing import ScriptedEngine
from tests.media.material import flac_of_silence, read
from tests.transports.serving import scripted, serving

PATH = "/api/v2/simple?chunk_ms=2000&format="


def recogniser(job: Job) -> Outcome:
    """Hears the number of its samples."""
    return Output.of({"text": f" {len(job.samples)} samples & more. "})


def parts(answer: Callable[[Job], Outcome] = recogniser) -> AppParts:
    return replace(scripted(), engine=ScriptedEngine(answer))


async def posted(app: App, data: bytes, path: str) -> tuple[int, str, str]:
    """The status, media type and text of an answer."""
    async with aiohttp.ClientSession() as http, http.post(app.url + path, data=data) as answer:
        return answer.status, answer.content_type, await answer.text()


CAPTION = "32000 samples & more."
LAST = "17600 samples & more."


async def test_text_has_a_line_for_each_final() -> None:
    async with serving(parts()) as app:
        answer = await posted(app, read("opus.ogg"), PATH + "txt")
    assert answer == (200, "text/plain", f"{CAPTION}\n" * 3 + f"{LAST}\n")


async def test_captions_count_from_the_beginning_of_the_file() -> None:
    async with serving(parts()) as app:
        status, kind, text = await posted(app, read("opus.ogg"), PATH + "srt")
    assert (status, kind) == (200, "application/x-subrip")
    assert text.startswith(f"1\n00:00:00,000 --> 00:00:02,000\n{CAPTION}\n\n2\n00:00:02,000 --> 00:00:04,000\n")
    assert text.endswith(f"4\n00:00:06,000 --> 00:00:07,100\n{LAST}\n")


async def test_captions_of_the_web_are_escaped() -> None:
    async with serving(parts()) as app:
        status, kind, text = await posted(app, read("opus.ogg"), PATH + "vtt")
    assert (status, kind) == (200, "text/vtt")
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n32000 samples &amp; more.\n")


async def test_one_object_has_the_text_and_its_words() -> None:
    async with serving(parts()) as app:
        status, kind, text = await posted(app, read("opus.ogg"), PATH + "json&interim_results=true")
    assert (status, kind) == (200, "application/json")
    transcript = json.loads(text)
    assert transcript["text"] == " ".join([CAPTION] * 3 + [LAST])
    assert [part["end_time"] for part in transcript["segments"]] == [2.0, 4.0, 6.0, 7.1]
    assert [word["word"] for word in transcript["segments"][0]["words"]] == CAPTION.split()


async def test_silence_has_an_empty_transcript() -> None:
    async with serving(parts(lambda job: Output.of({"text": ""}))) as app:
        assert await posted(app, read("opus.ogg"), PATH + "srt") == (200, "application/x-subrip", "")


@pytest.mark.parametrize("data", [flac_of_silence(300), read("opus.ogg")[:15_000] + b"x" * 200_000])
async def test_a_fault_after_results_is_a_status_and_no_transcript(data: bytes) -> None:
    async with serving(parts()) as app:
        status, kind, text = await posted(app, data, PATH + "srt")
        assert app.memory.used == 0
    assert (status, kind, json.loads(text)["code"]) == (400, "application/json", "invalid_audio")


async def test_results_that_are_no_transcripts_are_refused_at_the_first() -> None:
    async with serving() as app:
        status, _, text = await posted(app, read("opus.ogg") * 40, PATH + "vtt")
        await app.connections.wait_empty()
        assert app.memory.used == 0
    assert status == 400
    assert json.loads(text)["message"].startswith("format: expected a model whose results are transcripts")


async def test_an_unknown_format_is_told_the_known_ones() -> None:
    async with serving(parts()) as app:
        status, _, text = await posted(app, b"", PATH + "docx")
    assert (status, json.loads(text)["message"]) == (
        400,
        "format: expected one of txt, srt, vtt, json, tsv, got 'docx'",
    )


async def test_a_result_that_fails_is_the_answer() -> None:
    """No part of a transcript is missing without notice."""

    def fails_once(job: Job) -> Outcome:
        return JobFailed(ErrorCode.MODEL_ERROR, "the model has failed") if job.id == 1 else recogniser(job)

    async with serving(parts(fails_once)) as app:
        status, _, text = await posted(app, read("opus.ogg"), PATH + "txt")
    assert (status, json.loads(text)["code"]) == (500, "model_error")
