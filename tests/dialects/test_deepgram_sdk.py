"""Deepgram's own SDK for Python, unchanged, against this server; and its models, which parse what we send strictly."""

from __future__ import annotations

import asyncio
import importlib.util
from importlib.resources import as_file
from typing import Any

import pytest

import streamer
from streamer.access import new_key
from streamer.app import App
from streamer.audio.files import read_audio
from streamer.client.events import Segment
from streamer.client.sources import wire_audio
from streamer.config import Settings
from streamer.samples import sample
from tests.dialects.deepgram import client, listen, unknown_fields
from tests.dialects.stage import GAP, TONE, converse, transcribing
from tests.dialects.test_deepgram_files import wav
from tests.transports.serving import serving

SDK = "deepgram-sdk is not installed, which `make setup` does"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("deepgram") is None, reason=SDK),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of websockets, and of pydantic, in the SDK
]

CLOSE = '{"type":"CloseStream"}'
RAW = {"model": "nova-3", "encoding": "linear16", "sample_rate": 16_000}
KEY, KEPT = new_key("somebody")


async def stream(deepgram: Any, audio: bytes, *, step: int = 3_200, **options: Any) -> list[Any]:
    """Send audio as the SDK's users do, close, and return all messages until the end."""
    async with deepgram.listen.v1.connect(**{**RAW, **options}) as socket:

        async def send() -> None:
            for at in range(0, len(audio), step):
                await socket.send_media(audio[at : at + step])
            await socket.send_finalize()
            await socket.send_keep_alive()
            await socket.send_close_stream()

        sending = asyncio.create_task(send())
        messages = [message async for message in socket]
        await sending
        assert socket._websocket.close_code == 1000
        return messages


def kinds(messages: list[Any]) -> list[str]:
    """The types of messages without interims."""
    return [message.type for message in messages if getattr(message, "is_final", True)]


async def test_every_message_is_what_the_sdks_models_say_and_no_more() -> None:
    from deepgram.listen.v1 import types

    query = {"interim_results": "true", "vad_events": "true", "utterance_end_ms": "1000", "diarize": "true"}
    frames = [TONE, GAP, GAP, TONE, '{"type":"Finalize"}', "hello", '{"type":"Configure","keyterms":["a"]}', CLOSE]
    for options in ((), ("keyterm",)):
        messages = await converse(listen(*options, **query), frames)
        seen = set()
        for message in messages:
            model = getattr(types, f"ListenV1{message['type']}")
            assert not list(unknown_fields(model.model_validate(message, strict=True)))
            seen.add(message["type"])
        expected = {"Results", "SpeechStarted", "UtteranceEnd", "Metadata", "Error"}
        assert seen == expected | {"ConfigureSuccess" if options else "ConfigureFailure"}


async def test_the_sdk_streams_with_interims_events_and_a_finalize() -> None:
    async with serving(transcribing()) as app:
        options = {"interim_results": True, "vad_events": True, "utterance_end_ms": 1000, "smart_format": True}
        messages = await stream(client(app.url), TONE + GAP + GAP + TONE, **options)
    assert kinds(messages) == ["SpeechStarted", "Results", "UtteranceEnd", "SpeechStarted", "Results", "Metadata"]
    finals = [message for message in messages if getattr(message, "is_final", None)]
    assert [final.channel.alternatives[0].transcript for final in finals] == ["Number 1.", "Number 2."]
    assert [final.from_finalize for final in finals] == [False, True]
    assert [word.punctuated_word for word in finals[0].channel.alternatives[0].words] == ["Number", "1."]


async def test_the_sdk_sends_two_channels() -> None:
    import numpy as np

    silent = np.zeros(len(TONE) // 2, "<i2")
    audio = np.stack([silent, np.frombuffer(TONE, "<i2")], axis=1).tobytes()
    async with serving(transcribing()) as app:
        messages = await stream(client(app.url), audio, channels=2, multichannel=True)
    assert [message.channel_index for message in messages[:-1]] == [[1, 2], [0, 2]]


async def test_the_sdk_tells_a_wrong_key_and_a_wrong_parameter() -> None:
    from deepgram.core.api_error import ApiError

    async with serving(transcribing(), access={"keys": [str(KEPT)]}) as app:
        with pytest.raises(ApiError) as caught:
            await stream(client(app.url, "wrong"), b"")
        assert caught.value.status_code == 401
        assert kinds(await stream(client(app.url, KEY), TONE)) == ["Results", "Metadata"]
        with pytest.raises(ApiError) as caught:
            await stream(client(app.url, KEY), TONE, redact="pci")
        assert caught.value.status_code == 400


async def test_the_sdk_transcribes_a_file() -> None:
    async with serving(transcribing()) as app:
        media = client(app.url).listen.v1.media
        file = {"request": wav(TONE + GAP + TONE), "model": "nova-3", "smart_format": True}
        answer = await media.transcribe_file(**file, utterances=True, paragraphs=True, diarize=True)
    [channel] = answer.results.channels
    assert channel.alternatives[0].transcript == "Number 1. Number 2."
    assert channel.alternatives[0].paragraphs.transcript == "Number 1.\n\nNumber 2."
    assert [utterance.transcript for utterance in answer.results.utterances] == ["Number 1.", "Number 2."]
    assert set(unknown_fields(answer)) == {"punctuated_word"}  # which the service sends, and this model has not


async def test_the_sdk_tells_that_urls_are_not_fetched() -> None:
    from deepgram.core.api_error import ApiError

    async with serving(transcribing()) as app:
        with pytest.raises(ApiError) as caught:
            await client(app.url).listen.v1.media.transcribe_url(url="https://example.org/a.wav", model="nova-3")
    assert caught.value.status_code == 400
    assert caught.value.body["err_msg"].startswith("url: expected audio in the body")


@pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None, reason="needs the weights: pip install moonshine-voice==0.0.73"
)
@pytest.mark.parametrize("step", [640, 3_200, 9_999])
async def test_the_same_recording_has_the_same_words_over_v2(step: int) -> None:
    with as_file(sample()) as recording:
        form, audio = wire_audio(read_audio(recording))
    settings = Settings(server={"port": 0, "model": "moonshine:tiny-en"}, engine={"max_expected_wait_s": 1e6})
    async with App(settings) as app:
        address = app.url.replace("http", "ws", 1) + "/api/v2/segmented"
        async with streamer.connect(address, format=form) as native:
            await native.send(audio)
            await native.stop()
            segments = [event async for event in native if isinstance(event, Segment)]
        messages = await stream(client(app.url), audio, step=step, sample_rate=form.sample_rate, channels=form.channels)
    finals = [message for message in messages if message.type == "Results"]
    heard = [(final.start, final.channel.alternatives[0].transcript) for final in finals]
    assert [each for each in heard if each[1]] == [(each.start_time, each.output["text"]) for each in segments]
    for final in finals:
        [alternative] = final.channel.alternatives
        assert " ".join(word.punctuated_word for word in alternative.words) == alternative.transcript
