"""Parameters that only some models read: they go to a model that names them, and are named as ignored otherwise."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streamer.session.actions import Job, Outcome
from streamer.transports.handshake import IGNORED_HEADER
from tests.dialects import test_assemblyai as assemblyai
from tests.dialects import test_speechmatics as speechmatics
from tests.dialects import test_wyoming as wyoming
from tests.dialects.recogniser import conversation, dialect_server, messages, recognise, recogniser

STRICT = {"unsupported_parameters": "refuse"}


class Asked:
    """A recogniser that remembers the options of its jobs."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def __call__(self, job: Job) -> Outcome:
        self.options.append(json.loads(job.options))
        return recognise(job)


@pytest.mark.parametrize(
    ("known", "options", "ignored"),
    [
        (("language", "prompt"), {"language": "de", "prompt": "names"}, ""),
        (("prompt",), {"prompt": "names"}, "language_code"),
        ((), {}, "language_code, prompt"),
    ],
)
async def test_assemblyai_names_the_options_that_the_model_does_not_read(
    known: tuple[str, ...], options: dict[str, Any], ignored: str
) -> None:
    asked = Asked()
    async with (
        dialect_server("assemblyai", recogniser(asked, known)) as app,
        assemblyai.dialled(app, language_code="de", prompt="names") as socket,
    ):
        assert socket._response.headers.get(IGNORED_HEADER, "") == ignored
        await assemblyai.spoken(socket, conversation())
    assert asked.options
    assert all(each == options for each in asked.options)


async def test_assemblyai_names_several_languages_because_the_model_takes_one() -> None:
    async with (
        dialect_server("assemblyai", recogniser(known_options=("language",))) as app,
        assemblyai.dialled(app, language_codes='["de", "fr"]') as socket,
    ):
        assert socket._response.headers.get(IGNORED_HEADER) == "language_codes"


async def test_a_strict_server_refuses_an_option_that_the_model_does_not_read() -> None:
    async with dialect_server("assemblyai", dialects=STRICT) as app:
        status, body = await assemblyai.refused(app, sample_rate="16000", prompt="names")
        assert status == 400
        assert "prompt" in body["error"]


@pytest.mark.parametrize(
    ("known", "options", "ignored"),
    [(("language",), {"language": "de"}, ""), ((), {}, "language")],
)
async def test_speechmatics_names_a_language_that_the_model_does_not_read_and_never_refuses_it(
    known: tuple[str, ...], options: dict[str, Any], ignored: str
) -> None:
    asked = Asked()
    async with (
        dialect_server("speechmatics", recogniser(asked, known), dialects=STRICT) as app,
        speechmatics.dialled(app) as socket,
    ):
        assert socket._response.headers.get(IGNORED_HEADER, "") == ignored
        await socket.send_json(speechmatics.start(config={"language": "de"}))
        events = await speechmatics.heard(socket, conversation())
    assert events[-1] == {"message": "EndOfTranscript"}
    assert asked.options
    assert all(each == options for each in asked.options)


@pytest.mark.parametrize(("known", "options"), [(("language",), {"language": "de"}), ((), {})])
async def test_wyoming_passes_a_language_to_a_model_that_reads_it(
    known: tuple[str, ...], options: dict[str, Any]
) -> None:
    client, asr = pytest.importorskip("wyoming.client"), pytest.importorskip("wyoming.asr")
    audio = pytest.importorskip("wyoming.audio")
    asked = Asked()
    async with (
        wyoming.wyoming_server(recogniser(asked, known)) as app,
        client.AsyncClient.from_uri(wyoming.address_of(app)) as connection,
    ):
        await connection.write_event(asr.Transcribe(language="de").event())
        await connection.write_event(audio.AudioStart(**wyoming.FORMAT).event())
        for piece in messages(conversation(), 2_048):
            await connection.write_event(audio.AudioChunk(**wyoming.FORMAT, audio=piece).event())
        await connection.write_event(audio.AudioStop().event())
        while not asr.Transcript.is_type((event := await asyncio.wait_for(connection.read_event(), 10)).type):
            pass
    assert asr.Transcript.from_event(event).language == options.get("language")
    assert asked.options
    assert all(each == options for each in asked.options)
