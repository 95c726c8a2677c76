"""Speechmatics' real-time protocol over a real socket: both of its SDKs, its models, and how each fault is answered."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.errors import ErrorCode, Overloaded
from streamer.protocols.speechmatics import ERROR_TYPES
from streamer.session.actions import JobFailed
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

RT = "pip install speechmatics-rt==1.2.1"
RAW = {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}
END = {"message": "EndOfStream", "last_seq_no": 1}


def start(**changes: Any) -> dict[str, Any]:
    config = {"language": "en", **changes.pop("config", {})}
    return {"message": "StartRecognition", "audio_format": RAW, "transcription_config": config, **changes}


@asynccontextmanager
async def dialled(app: App, path: str = "/v2") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(app.url + path) as socket:
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse, audio: bytes, size: int = 4_096) -> list[dict[str, Any]]:
    """Send audio and the end; return all events but AudioAdded."""
    pieces = messages(audio, size)
    for piece in pieces:
        await socket.send_bytes(piece)
    await socket.send_json({"message": "EndOfStream", "last_seq_no": len(pieces)})
    events = [message.json() async for message in socket]
    return [event for event in events if event["message"] != "AudioAdded"]


def finals(events: list[dict[str, Any]]) -> list[str]:
    return [event["metadata"]["transcript"].strip() for event in events if event["message"] == "AddTranscript"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for event in events if event["message"] != "AddPartialTranscript"]


def wav(audio: bytes, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(audio)
    return file.getvalue()


# With the official SDK --------------------------------------------------------------------------------


def client_of(rt: Any, app: App, key: str = "any") -> tuple[Any, list[dict[str, Any]]]:
    client = rt.AsyncClient(api_key=key, url=app.url.replace("http", "ws", 1) + "/v2")
    events: list[dict[str, Any]] = []
    for type_ in rt.ServerMessageType:
        client.on(type_, events.append)
    return client, events


async def test_the_official_client_transcribes_raw_audio_and_files() -> None:
    rt = pytest.importorskip("speechmatics.rt", reason=RT)
    raw = rt.AudioFormat(encoding=rt.AudioEncoding.PCM_S16LE, sample_rate=16_000)
    async with dialect_server("speechmatics", recogniser(recognise_with_words)) as app:
        for format_, file in ((raw, conversation()), (None, wav(conversation()))):
            client, events = client_of(rt, app)
            async with client:
                config = rt.TranscriptionConfig(language="en", enable_partials=True)
                source = io.BytesIO(file)
                await client.transcribe(source, transcription_config=config, audio_format=format_, timeout=20)
            results = [
                rt.TranscriptResult.from_message(event)
                for event in events
                if event["message"] in ("AddTranscript", "AddPartialTranscript")
            ]
            texts = [result.metadata.transcript for result in results if result.is_final]
            assert texts == [text + " " for text in await native_finals(app, conversation())]
            assert any(not result.is_final and result.metadata.transcript == "The weather today " for result in results)
            first = next(result for result in results if result.is_final)
            contents = [result.alternatives[0].content for result in first.results]
            assert contents == [*SENTENCES[0].rstrip(".").split(), "."]
            assert (first.results[-1].type, first.results[-1].attaches_to) == ("punctuation", "previous")
            assert kinds(events)[0] == "RecognitionStarted"
            assert kinds(events)[-1] == "EndOfTranscript"


async def test_the_official_client_ends_an_utterance_itself() -> None:
    rt = pytest.importorskip("speechmatics.rt", reason=RT)
    async with dialect_server("speechmatics") as app:
        client, events = client_of(rt, app)
        ended = asyncio.Event()
        client.on(rt.ServerMessageType.END_OF_UTTERANCE, lambda _: ended.set())
        async with client:
            format_ = rt.AudioFormat(encoding=rt.AudioEncoding.PCM_S16LE, sample_rate=16_000)
            await client.start_session(audio_format=format_)
            await client.send_audio(silence(0.3) + sentence(1))
            await client.force_end_of_utterance()
            await asyncio.wait_for(ended.wait(), 10)
            await asyncio.wait_for(client.stop_session(), 10)
        assert finals(events) == [SENTENCES[0]]
        expected = ["RecognitionStarted", "AudioAdded", "AddTranscript", "EndOfUtterance", "EndOfTranscript"]
        assert kinds(events) == expected


async def test_the_official_client_transcribes_two_named_channels() -> None:
    rt = pytest.importorskip("speechmatics.rt", reason=RT)
    audio = {"agent": conversation(), "caller": silence(1.0) + sentence(3) + silence(3.9)}
    async with dialect_server("speechmatics", recogniser(recognise_with_words)) as app:
        client = rt.AsyncMultiChannelClient(api_key="any", url=app.url.replace("http", "ws", 1) + "/v2")
        events: list[dict[str, Any]] = []
        ended = asyncio.Event()
        for type_ in rt.ServerMessageType:
            client.on(type_, events.append)
        client.on(rt.ServerMessageType.END_OF_TRANSCRIPT, lambda _: ended.set())
        async with client:
            sources = {name: io.BytesIO(data) for name, data in audio.items()}
            format_ = rt.AudioFormat(encoding=rt.AudioEncoding.PCM_S16LE, sample_rate=16_000)
            await client.transcribe(sources, audio_format=format_, timeout=20)
            await asyncio.wait_for(ended.wait(), 10)  # the client returns when it has sent everything
        results = [rt.TranscriptResult.from_message(event) for event in events if event["message"] == "AddTranscript"]
        for name, data in audio.items():
            texts = [result.metadata.transcript.strip() for result in results if result.results[0].channel == name]
            assert texts == await native_finals(app, data)
        assert not any(word.alternatives[0].speaker for result in results for word in result.results)
        assert events[0]["channel_ids"] == list(audio)


async def test_the_official_client_is_told_of_a_wrong_key() -> None:
    rt = pytest.importorskip("speechmatics.rt", reason=RT)
    secret, key = new_key("me")
    async with dialect_server("speechmatics", access={"keys": (str(key),)}) as app:
        client, _ = client_of(rt, app, "wrong")
        with pytest.raises(rt.ConnectionError, match="401"):
            await client.start_session()
        client, events = client_of(rt, app, secret)
        async with client:
            await client.start_session()
            await asyncio.wait_for(client.stop_session(), 10)
        assert kinds(events) == ["RecognitionStarted", "EndOfTranscript"]


async def test_the_official_client_is_told_of_a_drain_in_mid_stream() -> None:
    rt = pytest.importorskip("speechmatics.rt", reason=RT)
    async with dialect_server("speechmatics", drain={"lag_s": 0, "soft_s": 0, "spread_s": 0}) as app:
        client, events = client_of(rt, app)
        format_ = rt.AudioFormat(encoding=rt.AudioEncoding.PCM_S16LE, sample_rate=16_000)
        await client.start_session(audio_format=format_)
        await client.send_audio(silence(0.3) + sentence(1))
        async with asyncio.timeout(10):
            while not any(event["message"] == "AudioAdded" for event in events):
                await asyncio.sleep(0.01)
        await app.drain(lag_s=0)
        await asyncio.wait_for(client.stop_session(), 10)  # it waits for the end of the session without a limit
        assert finals(events) == [SENTENCES[0]]
        assert events[-1] == {
            "message": "Error",
            "type": "job_error",
            "reason": "the server shuts down: connect again",
        }


# The protocol ---------------------------------------------------------------------------------------


async def test_every_message_with_audio_has_an_answer_with_its_number() -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start())
        assert (await socket.receive_json())["message"] == "RecognitionStarted"
        for piece in (b"\0\0", b"", b"\1", silence(0.1), silence(0.01)):
            await socket.send_bytes(piece)
        numbers = [(await socket.receive_json(timeout=10))["seq_no"] for _ in range(5)]
        assert numbers == [1, 2, 3, 4, 5]


async def test_the_language_may_stand_in_the_path() -> None:
    for path, config, expected in (("/v2/de", {"language": None}, "de"), ("/v2/de", {"language": "fr"}, "fr")):
        async with dialect_server("speechmatics") as app, dialled(app, path) as socket:
            await socket.send_json(start(config=config))
            started = await socket.receive_json(timeout=10)
            assert started["language_pack_info"]["language_description"] == expected
            assert started["language_pack_info"]["word_delimiter"] == " "


async def test_an_utterance_has_an_end_only_if_the_client_says_what_ends_it() -> None:
    async with dialect_server("speechmatics") as app:
        async with dialled(app) as socket:
            await socket.send_json(start())
            events = await heard(socket, conversation())
            assert kinds(events) == ["RecognitionStarted", "AddTranscript", "AddTranscript", "EndOfTranscript"]
            assert not any(event["message"] == "AddPartialTranscript" for event in events)
            assert socket.close_code == 1000
        async with dialled(app) as socket:
            trigger = {"conversation_config": {"end_of_utterance_silence_trigger": 0.5}}
            await socket.send_json(start(config=trigger))
            events = await heard(socket, conversation())
            ends = [event["metadata"] for event in events if event["message"] == "EndOfUtterance"]
            assert len(ends) == 2
            assert kinds(events)[1:3] == ["AddTranscript", "EndOfUtterance"]
            assert ends[0]["start_time"] == ends[0]["end_time"] == events[1]["metadata"]["end_time"]


async def test_settings_may_change_in_mid_stream() -> None:
    pause = silence(0.3) + sentence(1) + silence(0.8) + sentence(1) + silence()
    changes = {"enable_partials": True, "conversation_config": {"end_of_utterance_silence_trigger": 1.2}}
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start())
        await socket.send_json({"message": "SetRecognitionConfig", "transcription_config": changes})
        events = await heard(socket, pause)
        assert len(finals(events)) == 1
        assert any(event["message"] == "AddPartialTranscript" for event in events)


async def test_words_have_speakers_only_if_the_client_wants_them() -> None:
    async with dialect_server("speechmatics") as app:
        for config, speakers in (({}, {None}), ({"diarization": "speaker"}, {"UU"})):
            async with dialled(app) as socket:
                await socket.send_json(start(config=config))
                results = [
                    result for event in await heard(socket, conversation()) for result in event.get("results", [])
                ]
                assert {result["alternatives"][0].get("speaker") for result in results} == speakers


async def test_speakers_are_none() -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start())
        await socket.send_json({"message": "GetSpeakers"})
        await socket.receive_json()
        assert await socket.receive_json(timeout=10) == {"message": "SpeakersResult", "speakers": []}


async def test_settings_without_effect_are_named_in_a_warning_or_refused() -> None:
    config = {"additional_vocab": [{"content": "gnocchi"}], "model": "enhanced", "max_delay": 1.0}
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start(config=config))
        assert (await socket.receive_json(timeout=10))["message"] == "RecognitionStarted"
        warning = await socket.receive_json(timeout=10)
        assert (warning["message"], warning["type"]) == ("Warning", "unsupported_config")
        assert "additional_vocab" in warning["reason"]
        assert "max_delay" not in warning["reason"]
    strict = {"unsupported_parameters": "refuse"}
    async with dialect_server("speechmatics", dialects=strict) as app, dialled(app) as socket:
        await socket.send_json(start(config=config))
        assert (await socket.receive_json(timeout=10))["type"] == "invalid_config"


async def test_a_range_without_a_result_is_a_warning_and_the_session_goes_on() -> None:
    parts = recogniser(lambda _: JobFailed(ErrorCode.MODEL_ERROR, "the model is broken"))
    async with dialect_server("speechmatics", parts) as app, dialled(app) as socket:
        await socket.send_json(start())
        events = await heard(socket, conversation())
        assert kinds(events) == ["RecognitionStarted", "Warning", "Warning", "EndOfTranscript"]


# Faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "type_", "code"),
    [
        ("nonsense", "invalid_message", 1003),
        ("{}", "invalid_message", 1003),
        ('{"message":"Begin"}', "invalid_message", 1003),
        ('{"message":7}', "invalid_message", 1003),
        (json.dumps(start(audio_format={"type": "tape"})), "invalid_audio_type", 1003),
        (json.dumps(start(audio_format={"type": "raw"})), "invalid_audio_type", 1003),
        (json.dumps(start(audio_format={**RAW, "sample_rate": 1})), "invalid_audio_type", 1003),
        (json.dumps(start(audio_format={**RAW, "sample_rate": "16000"})), "invalid_message", 1003),
        (json.dumps(start(transcription_config=[])), "invalid_message", 1003),
        (json.dumps(start(config={"enable_partials": "yes"})), "invalid_config", 1003),
        (
            json.dumps(start(config={"conversation_config": {"end_of_utterance_silence_trigger": 99}})),
            "invalid_config",
            1003,
        ),
        (json.dumps(start(translation_config={"target_languages": ["de"]})), "invalid_config", 1003),
        (json.dumps(END), "protocol_error", 1003),
        (b"\0\0", "protocol_error", 1003),
        (json.dumps(start(config={"additional_vocab": ["a" * 20_000]})), "invalid_message", 1009),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_a_fault_is_an_error_and_then_the_close(frame: str | bytes, type_: str, code: int) -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        [error] = [message.json() async for message in socket]
        assert (error["message"], error["type"]) == ("Error", type_)
        assert error["reason"]
        assert socket.close_code == code


async def test_faults_after_the_start_are_errors_as_well() -> None:
    frames = (
        (json.dumps(start()), "protocol_error", 1003),
        ('{"message":"AddChannelAudio","channel":"a","data":""}', "not_allowed", 4003),
        ('{"message":"SetRecognitionConfig","transcription_config":{"language":7}}', "invalid_config", 1003),
    )
    for frame, type_, code in frames:
        async with dialect_server("speechmatics") as app, dialled(app) as socket:
            await socket.send_json(start())
            await socket.send_str(frame)
            events = [message.json() async for message in socket]
            assert (events[-1]["message"], events[-1]["type"]) == ("Error", type_)
            assert socket.close_code == code


# Named channels -------------------------------------------------------------------------------------


def start_of(*names: str, **changes: Any) -> dict[str, Any]:
    config = {"diarization": "channel", "channel_diarization_labels": names, **changes.pop("config", {})}
    return start(config=config, **changes)


def added(channel: str, audio: bytes) -> dict[str, str]:
    return {"message": "AddChannelAudio", "channel": channel, "data": base64.b64encode(audio).decode()}


async def test_a_named_channel_may_be_sent_before_the_other_one() -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start_of("a", "b"))
        sizes = {"a": len(conversation()) // 3, "b": 333}
        for name, audio in (("a", conversation()), ("b", silence(0.2) + sentence(3) + b"\0")):
            pieces = messages(audio, sizes[name])
            for piece in pieces:
                await socket.send_json(added(name, piece))
            await socket.send_json({"message": "EndOfChannel", "channel": name, "last_seq_no": len(pieces)})
        events = [message.json() async for message in socket]
        for name, expected in (("a", list(SENTENCES[:2])), ("b", [SENTENCES[2]])):
            assert finals([event for event in events if event.get("channel") == name]) == expected
        numbers = [event["seq_no"] for event in events if event.get("channel") == "b" and "seq_no" in event]
        assert numbers == list(range(1, len(pieces) + 1))
        assert events[-1] == {"message": "EndOfTranscript"}
        assert socket.close_code == 1000


async def test_the_utterance_of_one_named_channel_may_be_ended() -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start_of("a", "b"))
        for name, audio in (("a", silence(0.3) + sentence(1)), ("b", silence(1.5))):
            await socket.send_json(added(name, audio))
        await socket.send_json({"message": "ForceEndOfUtterance", "channel": "a"})
        events: list[dict[str, Any]] = []
        while not events or events[-1]["message"] != "EndOfUtterance":
            events.append(await socket.receive_json(timeout=10))
        assert (events[-1]["channel"], finals(events)) == ("a", [SENTENCES[0]])
        await socket.send_json({"message": "ForceEndOfUtterance"})
        ends = [await socket.receive_json(timeout=10) for _ in range(2)]
        assert [(end["message"], end["channel"]) for end in ends] == [("EndOfUtterance", "a"), ("EndOfUtterance", "b")]
        await socket.send_json(END)
        assert [message.json()["message"] async for message in socket] == ["EndOfTranscript"]


@pytest.mark.parametrize(
    ("frames", "type_"),
    [
        ([start_of("a", "a")], "invalid_config"),
        ([start_of("a", "")], "invalid_config"),
        ([start_of("a", "b", audio_format={"type": "file"})], "invalid_audio_type"),
        ([start_of(*"abcdefghi")], "invalid_audio_type"),
        ([start_of("a"), added("x", b"")], "invalid_message"),
        ([start_of("a"), {"message": "EndOfChannel", "channel": "x"}], "invalid_message"),
        ([start_of("a"), {"message": "ForceEndOfUtterance", "channel": "x"}], "invalid_message"),
        ([start_of("a"), {"message": "AddChannelAudio", "channel": "a", "data": "?"}], "invalid_message"),
        ([start_of("a"), {"message": "AddChannelAudio", "channel": "a"}], "invalid_message"),
        ([start_of("a"), b"\0\0"], "protocol_error"),
    ],
    ids=lambda value: repr(value)[-60:],
)
async def test_a_fault_of_a_named_channel_is_an_error(frames: list[dict[str, Any] | bytes], type_: str) -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        for frame in frames:
            await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_json(frame))
        events = [message.json() async for message in socket]
        assert (events[-1]["message"], events[-1]["type"]) == ("Error", type_)


async def test_messages_of_a_few_bytes_without_end_close_the_connection() -> None:
    async with dialect_server("speechmatics") as app, dialled(app) as socket:
        await socket.send_json(start())
        for _ in range(1_100):
            await socket.send_bytes(b"\0\0")
        async for _ in socket:
            pass
        assert socket.close_code == 4005


async def test_the_protocol_of_voice_agents_is_refused_rather_than_misunderstood() -> None:
    async with dialect_server("speechmatics") as app:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app, "/v2/agent"):
                pass
        assert refused.value.status == 400


async def test_an_overloaded_server_refuses_before_the_upgrade() -> None:
    parts = recogniser()
    assert isinstance(parts.engine, ScriptedEngine)
    parts.engine.refuse_admission = Overloaded("busy", retry_after_s=1.0)
    async with dialect_server("speechmatics", parts) as app:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app):
                pass
        assert refused.value.status == 503


async def test_a_client_that_is_silent_or_never_starts_is_told_and_closed() -> None:
    async with dialect_server("speechmatics", limits={"idle_timeout_s": 0.3, "start_timeout_s": 0.3}) as app:
        for first in (None, start()):
            async with dialled(app) as socket:
                if first is not None:
                    await socket.send_json(first)
                events = [message.json() async for message in socket]
                assert events[-1]["type"] == "idle_timeout"
                assert socket.close_code == 1008


async def test_a_client_that_vanishes_leaves_no_session() -> None:
    async with dialect_server("speechmatics") as app:
        async with dialled(app) as socket:
            await socket.send_json(start())
            await socket.send_bytes(sentence(1))
            connection = socket._response.connection
            assert connection is not None
            assert connection.transport is not None
            connection.transport.abort()  # type: ignore[attr-defined]
        await asyncio.wait_for(app.connections.wait_empty(), 10)


def test_every_error_has_a_type_and_a_close() -> None:
    assert set(ERROR_TYPES) == set(ErrorCode)
    assert all(1002 <= code < 5000 for _, code in ERROR_TYPES.values())
