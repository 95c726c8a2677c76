"""Deepgram's transcripts of files: `POST /v1/listen` on a real socket."""

from __future__ import annotations

import hashlib
import io
import wave
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import numpy as np
import pytest

from streamer.access import new_key
from streamer.app import App
from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobFailed, Output
from tests.dialects.stage import GAP, TONE, transcribing
from tests.transports.serving import serving

KEY, KEPT = new_key("somebody")
AUDIO = TONE + GAP + TONE + GAP


def wav(audio: bytes, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(audio)
    return file.getvalue()


async def post(app: App, data: Any, *, headers: dict[str, str] | None = None, **query: str) -> tuple[int, Any, Any]:
    """Status, body and headers of an answer."""
    address = f"{app.url}/v1/listen?{urlencode(query)}"
    async with aiohttp.ClientSession() as http, http.post(address, data=data, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_a_file_has_one_transcript_a_channel_with_the_words_of_all_utterances() -> None:
    file = wav(AUDIO)
    async with serving(transcribing()) as app:
        status, body, headers = await post(app, file, model="nova-3", smart_format="true")
    assert status == 200
    [channel] = body["results"]["channels"]
    [alternative] = channel["alternatives"]
    assert alternative["transcript"] == "Number 1. Number 2."
    assert [word["punctuated_word"] for word in alternative["words"]] == ["Number", "1.", "Number", "2."]
    assert alternative["words"][2]["start"] > 1.5
    metadata = body["metadata"]
    assert metadata["request_id"] == headers["dg-request-id"]
    assert (metadata["sha256"], metadata["duration"]) == (hashlib.sha256(file).hexdigest(), 5.0)
    assert metadata["model_info"][metadata["models"][0]]["name"] == "scripted"
    assert headers["X-Streamer-Ignored"] == "model, smart_format"


async def test_utterances_and_paragraphs_come_on_request() -> None:
    async with serving(transcribing()) as app:
        _, plain, _ = await post(app, wav(AUDIO))
        _, body, _ = await post(app, wav(AUDIO), utterances="true", paragraphs="true")
    assert "utterances" not in plain["results"]
    utterances = body["results"]["utterances"]
    assert [each["transcript"] for each in utterances] == ["Number 1.", "Number 2."]
    assert utterances[0]["end"] < utterances[1]["start"]
    paragraphs = body["results"]["channels"][0]["alternatives"][0]["paragraphs"]
    assert paragraphs["transcript"] == "Number 1.\n\nNumber 2."
    assert [each["num_words"] for each in paragraphs["paragraphs"]] == [2, 2]


@pytest.mark.parametrize("is_raw", [True, False])
async def test_channels_are_mixed_unless_they_are_asked_for(is_raw: bool) -> None:
    stereo = np.repeat(np.frombuffer(AUDIO, "<i2"), 2).tobytes()
    audio = stereo if is_raw else wav(stereo, 2)
    raw = {"encoding": "linear16", "sample_rate": "16000", "channels": "2"} if is_raw else {}
    async with serving(transcribing()) as app:
        _, mixed, _ = await post(app, audio, **raw)
        _, apart, _ = await post(app, audio, multichannel="true", utterances="true", **raw)
    assert [each["alternatives"][0]["transcript"] for each in mixed["results"]["channels"]] == ["Number 1. Number 2."]
    assert mixed["metadata"]["duration"] == 5.0
    assert len(apart["results"]["channels"]) == apart["metadata"]["channels"] == 2
    assert [each["channel"] for each in apart["results"]["utterances"]] == [0, 1, 0, 1]


async def test_a_longer_split_joins_utterances() -> None:
    async with serving(transcribing()) as app:
        _, body, _ = await post(app, wav(TONE + GAP[:32_000] + TONE + GAP), utt_split="1.2", utterances="true")
        _, split, _ = await post(app, wav(TONE + GAP[:32_000] + TONE + GAP), utt_split="0.01", utterances="true")
    assert [len(each["results"]["utterances"]) for each in (body, split)] == [1, 2]


async def test_a_file_without_speech_has_an_empty_transcript() -> None:
    async with serving(transcribing()) as app:
        status, body, _ = await post(app, wav(GAP))
    assert (status, body["results"]["channels"]) == (200, [{"alternatives": [_EMPTY]}])


_EMPTY = {"transcript": "", "confidence": 0.0, "words": []}


async def test_the_languages_that_the_model_found_are_named_on_request() -> None:
    answer = Output.of({"text": "hola", "language": "es"})
    async with serving(transcribing(lambda _: answer)) as app:
        _, body, _ = await post(app, wav(AUDIO), detect_language="true", language="multi")
    [channel] = body["results"]["channels"]
    assert (channel["detected_language"], channel["alternatives"][0]["languages"]) == ("es", ["es"])


@pytest.mark.parametrize(
    ("data", "headers", "query", "status", "named"),
    [
        (b"", {}, {}, 400, "body"),
        (b'{"url":"https://example.org"}', {"Content-Type": "application/json"}, {}, 400, "url"),
        (wav(AUDIO), {}, {"redact": "pci"}, 400, "redact"),
        (wav(AUDIO), {}, {"callback": "https://example.org"}, 400, "callback"),
        (wav(AUDIO), {}, {"utt_split": "nan"}, 400, "utt_split"),
        (wav(AUDIO), {}, {"utterances": "some"}, 400, "utterances"),
        (AUDIO, {}, {"encoding": "linear16"}, 400, "sample_rate"),
        (b"no audio, whatever it is", {}, {}, 400, ""),
        (wav(AUDIO), {"Authorization": "Token wrong"}, {}, 401, ""),
    ],
)
async def test_a_request_that_cannot_be_served_is_refused_by_its_reason(
    data: bytes, headers: dict[str, str], query: dict[str, str], status: int, named: str
) -> None:
    headers = {"Authorization": f"Token {KEY}", **headers}
    async with serving(transcribing(), access={"keys": [str(KEPT)]}) as app:
        got, body, answer = await post(app, data, headers=headers, **query)
        assert app.admission.active == 0
    assert got == status
    assert body["request_id"] == answer["dg-request-id"]
    assert body["err_msg"] == answer["dg-error"]
    if named:
        assert body["err_msg"].partition(":")[0] == named


async def test_a_failure_of_the_model_is_the_whole_answer() -> None:
    def fail(job: Job) -> JobFailed:
        return JobFailed(ErrorCode.MODEL_ERROR, "the model failed")

    for answer in (fail, lambda _: Output.of({"count": 1})):
        async with serving(transcribing(answer)) as app:
            status, body, _ = await post(app, wav(AUDIO))
        assert status in (400, 500)
        assert "model" in body["err_msg"]


async def test_a_body_in_pieces_is_one_file() -> None:
    file = wav(AUDIO)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(file), 1_001):
            yield file[at : at + 1_001]

    async with serving(transcribing()) as app:
        _, whole, _ = await post(app, file)
        _, cut, _ = await post(app, pieces())
    assert whole["results"] == cut["results"]
    assert whole["metadata"]["sha256"] == cut["metadata"]["sha256"]
