"""Vosk over a real socket: lockstep and not, `reset`, drain, and how each fault is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.errors import Overloaded
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

EOF = '{"eof" : 1}'
CONFIG = '{ "config" : { "sample_rate" : %f } }'


@asynccontextmanager
async def dialled(app: App) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(app.url + "/") as socket:
        yield socket


async def in_lockstep(
    socket: aiohttp.ClientWebSocketResponse, pieces: list[bytes], rate: float
) -> list[dict[str, Any]]:
    """Do as every sample of vosk-server: send a message, wait for its answer."""
    answers = []
    await socket.send_str(CONFIG % rate)
    for piece in pieces:
        await socket.send_bytes(piece)
        answers.append(await socket.receive_json(timeout=10))
    await socket.send_str(EOF)
    answers.append(await socket.receive_json(timeout=10))
    return answers


def texts(answers: list[dict[str, Any]]) -> list[str]:
    return [answer["text"] for answer in answers if answer.get("text")]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("milliseconds", [10, 20, 125, 250, 4_000])
async def test_a_client_in_lockstep_never_hangs_and_reads_one_text_for_each_utterance(
    rate: int, milliseconds: int
) -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        audio = conversation(rate)
        pieces = messages(audio, rate * milliseconds // 1000 * 2)
        answers = await in_lockstep(socket, pieces, rate)
        assert len(answers) == len(pieces) + 1
        assert " ".join(texts(answers)) == " ".join(await native_finals(app, audio, rate))
        assert (await socket.receive()).data == 1000
        if milliseconds < 1_000:
            assert texts(answers) == list(SENTENCES[:2])


async def test_an_interim_is_a_partial_and_silence_an_empty_one() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        answers = await in_lockstep(socket, messages(conversation(), 4_000), 16_000)
        partials = [answer["partial"] for answer in answers if "partial" in answer]
        assert partials[0] == ""
        assert "The weather today" in partials
        assert "Please turn on the" in partials


async def test_a_client_that_does_not_wait_gets_as_many_answers_as_messages() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        await socket.send_str(CONFIG % 16_000)
        pieces = messages(conversation(), 3_200)
        for piece in pieces:
            await socket.send_bytes(piece)
        await socket.send_str(EOF)
        answers = [message.json() async for message in socket]
        assert len(answers) == len(pieces) + 1
        assert texts(answers) == list(SENTENCES[:2])
        assert socket.close_code == 1000


async def test_without_a_config_the_audio_has_8000_hz() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        for piece in messages(conversation(8_000), 4_000):
            await socket.send_bytes(piece)
        await socket.send_str(EOF)
        assert texts([message.json() async for message in socket]) == list(SENTENCES[:2])


async def test_words_come_only_where_the_model_gives_them_and_the_client_wants_them() -> None:
    pieces = messages(conversation(), 8_000)
    async with dialect_server("vosk", recogniser(recognise_with_words)) as app:
        async with dialled(app) as socket:
            answers = await in_lockstep(socket, pieces, 16_000)
            result = next(answer["result"] for answer in answers if answer.get("text"))
            assert [word["word"] for word in result] == SENTENCES[0].split()
            assert result[0].keys() == {"conf", "start", "end", "word"}
            assert result[0]["conf"] == 0.9
        async with dialled(app) as socket:
            await socket.send_str('{"config": {"words": 0}}')
            answers = await in_lockstep(socket, pieces, 16_000)
            assert not any("result" in answer for answer in answers)
    async with dialect_server("vosk") as app, dialled(app) as socket:
        answers = await in_lockstep(socket, pieces, 16_000)
        assert not any("result" in answer for answer in answers)


async def test_alternatives_are_one_when_the_client_asks_for_them() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        await socket.send_str('{"config": {"max_alternatives": 3}}')
        answers = await in_lockstep(socket, messages(conversation(), 8_000), 16_000)
        finals = [answer["alternatives"] for answer in answers if "alternatives" in answer]
        assert {"text": SENTENCES[0], "confidence": 1.0} in [final[0] for final in finals]
        assert all(len(final) == 1 for final in finals)


async def test_a_reset_ends_the_utterance_and_has_one_answer() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        await socket.send_str(CONFIG % 16_000)
        await socket.send_bytes(silence(0.5) + sentence(1))
        assert "partial" in await socket.receive_json(timeout=10)
        await socket.send_str('{"reset" : 1}')
        assert await socket.receive_json(timeout=10) == {"text": SENTENCES[0]}
        await socket.send_bytes(silence(0.2) + sentence(2))
        assert "partial" in await socket.receive_json(timeout=10)
        await socket.send_str(EOF)
        assert await socket.receive_json(timeout=10) == {"text": SENTENCES[1]}


async def test_the_end_of_a_stream_without_audio_has_an_answer() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        await socket.send_str(EOF)
        assert await socket.receive_json(timeout=10) == {"text": ""}
        assert (await socket.receive()).data == 1000


async def test_messages_without_audio_and_odd_ones_have_an_answer() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        answers = await in_lockstep(socket, [b"", b"\1", b"", *messages(conversation(), 4_001)], 16_000)
        assert " ".join(texts(answers))


async def test_the_official_transcriber_reads_the_sentences() -> None:
    needed = "pip install vosk==0.3.45"
    transcriber = pytest.importorskip("vosk.transcriber.transcriber", reason=needed)
    async with dialect_server("vosk", recogniser(recognise_with_words)) as app:
        client = transcriber.Transcriber.__new__(transcriber.Transcriber)  # its constructor loads a model of Vosk
        client.args = SimpleNamespace(server=app.url.replace("http", "ws"), output_type="srt")
        stdout = asyncio.StreamReader()
        stdout.feed_data(conversation())
        stdout.feed_eof()
        result, samples = await client.recognize_stream_server(SimpleNamespace(stdout=stdout))
        assert samples == len(conversation())
        assert [part["text"] for part in result if part["text"]] == list(SENTENCES[:2])
        captions = client.format_result(result)
        assert "The weather today is cold and dark." in captions
        assert "00:00:0" in captions


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("nonsense", 1011),
        ("{}", 1011),
        ('{"config": 7}', 1011),
        ('{"config": {"sample_rate": "fast"}}', 1011),
        ('{"config": {"sample_rate": 11025.5}}', 1011),
        ('{"config": {"sample_rate": 1}}', 1011),
        ('{"type": "start"}', 1011),
        ("[" * 10_000, 1011),
        ('{"config": {"phrase_list": ["' + "a" * 20_000 + '"]}}', 1009),
        (b"\0" * (1024 * 1024 + 2), 1009),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_a_fault_closes_the_connection_as_vosk_server_does(frame: str | bytes, code: int) -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == code


async def test_a_wrong_key_is_refused_before_the_upgrade() -> None:
    _, key = new_key("me")
    async with dialect_server("vosk", access={"keys": (str(key),)}) as app:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app):
                pass
        assert refused.value.status == 401


async def test_messages_of_a_few_bytes_without_end_close_the_connection() -> None:
    async with dialect_server("vosk") as app, dialled(app) as socket:
        for _ in range(1_100):
            await socket.send_bytes(b"\0\0")
        async for _ in socket:
            pass
        assert socket.close_code == 1008


async def test_an_overloaded_server_refuses_before_the_upgrade() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    parts.engine.refuse_admission = Overloaded("busy", retry_after_s=1.0)
    async with dialect_server("vosk", parts) as app:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app):
                pass
        assert refused.value.status == 503


async def test_a_drain_in_mid_stream_sends_the_finals_and_closes() -> None:
    async with dialect_server("vosk", drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app, dialled(app) as socket:
        await socket.send_str(CONFIG % 16_000)
        await socket.send_bytes(silence(0.5) + sentence(1))
        assert "partial" in await socket.receive_json(timeout=10)
        await app.drain(lag_s=0)
        assert await socket.receive_json(timeout=10) == {"text": SENTENCES[0]}
        assert (await socket.receive(timeout=10)).data == 1012


async def test_a_silent_client_is_closed_after_the_idle_time_out() -> None:
    async with dialect_server("vosk", limits={"idle_timeout_s": 0.05}) as app, dialled(app) as socket:
        await socket.send_bytes(silence(0.1))
        assert "partial" in await socket.receive_json(timeout=10)
        assert (await socket.receive(timeout=10)).data == 1008


async def test_a_client_that_waits_in_mid_utterance_has_it_in_one_piece() -> None:
    async with dialect_server("vosk", session={"stall_timeout_s": 0.05}) as app, dialled(app) as socket:
        await socket.send_str(CONFIG % 16_000)
        await socket.send_bytes(silence(0.5) + sentence(1, 0.6))
        assert "partial" in await socket.receive_json(timeout=10)
        await asyncio.sleep(0.3)  # a slow answer, or a pause of the client
        await socket.send_bytes(sentence(1, 0.6))
        assert "partial" in await socket.receive_json(timeout=10)
        await socket.send_str(EOF)
        assert await socket.receive_json(timeout=10) == {"text": SENTENCES[0]}


async def test_a_client_that_vanishes_leaves_no_session() -> None:
    async with dialect_server("vosk") as app:
        async with dialled(app) as socket:
            await socket.send_bytes(sentence(1))
            assert len(app.connections) == 1
            connection = socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()  # type: ignore[attr-defined]
        await asyncio.wait_for(app.connections.wait_empty(), 10)


async def test_the_page_stays_at_the_root() -> None:
    async with dialect_server("vosk") as app, aiohttp.ClientSession() as http, http.get(app.url + "/") as response:
        assert "text/html" in response.headers["Content-Type"]


def test_a_config_reads_numbers_as_the_samples_write_them() -> None:
    assert json.loads(CONFIG % 16_000)["config"]["sample_rate"] == 16_000.0
