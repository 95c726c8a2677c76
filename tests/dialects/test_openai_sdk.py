"""OpenAI's own client, unchanged, on a real socket; its models validate every answer and event strictly."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, get_args

import pytest

from streamer.access import new_key
from streamer.app import App
from streamer.session.actions import Job, Outcome, Output
from tests.dialects.openai_serving import TWO, client_of, openai_serving, recogniser
from tests.dialects.test_openai_files import TEXT
from tests.dialects.test_openai_realtime import RATE, TEXTS, spoken
from tests.protocols.realtime_pair import EASY, RealtimePair, audio_of

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed: pip install openai==3.57.0")
FILE = ("speech.wav", TWO)


def models_by_type(*unions: Any) -> dict[str, Any]:
    """The SDK's models by the type of their event."""
    return {
        get_args(model.model_fields["type"].annotation)[0]: model
        for union in unions
        for model in get_args(get_args(union)[0])
    }


def realtime_models() -> dict[str, Any]:
    from openai.types.beta.realtime import RealtimeServerEvent as BetaEvent
    from openai.types.realtime import RealtimeServerEvent

    return models_by_type(BetaEvent) | models_by_type(RealtimeServerEvent)


async def test_files_in_every_format() -> None:
    async with openai_serving() as app, client_of(app) as client:
        create = client.audio.transcriptions.create
        assert (await create(file=FILE, model="whisper-1")).text == TEXT
        assert await create(file=FILE, model="whisper-1", response_format="text") == TEXT + "\n"
        assert (await create(file=FILE, model="whisper-1", response_format="srt")).startswith("1\n00:00:00,")
        assert (await create(file=FILE, model="whisper-1", response_format="vtt")).startswith("WEBVTT")
        verbose = await create(
            file=FILE,
            model="whisper-1",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            language="en",
            prompt="names",
            temperature=0.2,
            chunking_strategy={"type": "server_vad", "silence_duration_ms": 700},
        )
    assert (verbose.text, verbose.language, verbose.duration) == (TEXT, "english", 7.0)
    assert [word.word for word in verbose.words] == TEXT.split()
    assert [segment.text for segment in verbose.segments] == [TEXT[:24], TEXT[25:]]
    type(verbose).model_validate(verbose.model_dump(), strict=True)


async def test_a_file_as_a_stream_of_events() -> None:
    async with openai_serving() as app, client_of(app) as client:
        stream = await client.audio.transcriptions.create(file=FILE, model="gpt-4o-transcribe", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == TEXT


async def test_log_probabilities() -> None:
    def sure(job: Job) -> Outcome:
        words = [{"word": "yes", "start_time": 0.1, "end_time": 0.3, "confidence": 0.5}]
        return Output.of({"text": "yes", "words": words})

    async with openai_serving(recogniser(sure)) as app, client_of(app) as client:
        answer = await client.audio.transcriptions.create(file=FILE, model="m", include=["logprobs"])
    assert [(one.token, one.logprob) for one in answer.logprobs] == [("yes", -0.693147)] * 2


async def test_errors_are_raised_by_their_class_and_name_the_parameter() -> None:
    secret, kept = new_key("tests")
    async with openai_serving(access={"keys": str(kept)}) as app:
        async with client_of(app, "sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.audio.transcriptions.create(file=FILE, model="m")
            assert (refused.value.code, refused.value.status_code) == ("invalid_api_key", 401)
        async with client_of(app, secret) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.audio.transcriptions.create(file=FILE, model="m", response_format="diarized_json")
            assert refused.value.param == "response_format"
            with pytest.raises(openai.BadRequestError) as refused:
                await client.audio.transcriptions.create(file=("a.wav", b"not audio at all"), model="m")
            assert refused.value.param == "file"
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("gpt-4o")
            assert (await client.audio.transcriptions.create(file=FILE, model="m")).text == TEXT


async def test_models() -> None:
    async with openai_serving() as app, client_of(app) as client:
        assert [model.id async for model in client.models.list()] == ["scripted"]
        assert (await client.models.retrieve("scripted")).owned_by == "streamer"


async def append_all(connection: Any) -> None:
    audio = spoken()
    for at in range(0, len(audio), 4_800):
        await connection.input_audio_buffer.append(audio=base64.b64encode(audio[at : at + 4_800]).decode())


async def heard(connection: Any, completed: int) -> list[Any]:
    """The events until so many items are completed, each validated."""
    models, events = realtime_models(), []
    async with asyncio.timeout(60):
        while sum(event.type.endswith(".completed") for event in events) < completed:
            data = await connection.recv_bytes()
            models[json.loads(data)["type"]].model_validate(json.loads(data), strict=True)
            events.append(connection.parse_event(data))
    return events


async def live(app: App, turn_detection: dict[str, Any] | None, completed: int) -> list[Any]:
    async with client_of(app) as client, client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        audio = {
            "format": {"type": "audio/pcm", "rate": RATE},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
            "turn_detection": turn_detection,
        }
        await connection.session.update(session={"type": "transcription", "audio": {"input": audio}})
        await append_all(connection)
        if turn_detection is None:
            await connection.input_audio_buffer.commit()
        return await heard(connection, completed)


@pytest.mark.parametrize("kind", ["server_vad", "semantic_vad"])
async def test_live_with_the_servers_turns(kind: str) -> None:
    async with openai_serving() as app:
        events = await live(app, {"type": kind}, 2)
    assert [event.type for event in events[:2]] == ["session.created", "session.updated"]
    assert [event.transcript for event in events if event.type.endswith(".completed")] == TEXTS
    assert {event.type.rpartition(".")[2] for event in events} == {
        *("created", "updated", "speech_started", "speech_stopped", "committed", "added", "done", "delta", "completed")
    }


async def test_live_with_the_clients_turns() -> None:
    async with openai_serving() as app:
        events = await live(app, None, 1)
    [completed] = [event for event in events if event.type.endswith(".completed")]
    assert completed.transcript.count("Word1") == 2
    assert "".join(event.delta for event in events if event.type.endswith(".delta")) == completed.transcript


async def test_a_wrong_key_is_refused_live() -> None:
    from websockets.exceptions import InvalidStatus

    _, kept = new_key("tests")
    async with openai_serving(access={"keys": str(kept)}) as app, client_of(app, "sk-wrong") as client:
        with pytest.raises(InvalidStatus, match="401"):
            async with client.realtime.connect(model="m"):
                pass


async def test_the_client_connects_again_after_a_drain() -> None:
    asked = []

    def on_reconnecting(event: Any) -> None:
        asked.append(event.close_code)

    async with openai_serving() as app, client_of(app) as client:
        connect = client.realtime.connect(
            extra_query={"intent": "transcription"}, on_reconnecting=on_reconnecting, initial_delay=0.01
        )
        async with connect as connection:
            await append_all(connection)
            events = await heard(connection, 1)
            await app.connections.finish(0.0)
            async with asyncio.timeout(60):
                async for event in connection:
                    events.append(event)
                    if event.type == "session.created":
                        break
    assert asked == [1012]
    assert events[0].type == "session.created"
    assert next(event.transcript for event in events if event.type.endswith(".completed")) == TEXTS[0]
    assert [event for event in events if event.type == "error"] == []


def test_every_event_is_valid_for_the_clients_models() -> None:
    """Also those that a good client never sees: errors, failures, clears, the beta."""
    models = realtime_models()
    seen: set[str] = set()
    for is_beta in (False, True):
        pair = RealtimePair(lambda job: Output.of({"count": 1} if job.segment_id == 1 else "text"), is_beta=is_beta)
        pair.send("nonsense")
        pair.commit()
        pair.update(turn_detection=EASY, transcription={"model": "m"}, noise_reduction={"type": "near_field"})
        pair.append(audio_of(0.5, 1.0, 1.0, 1.0, 1.0))
        pair.send("input_audio_buffer.clear")
        if is_beta:
            pair.send("transcription_session.update", session={"input_audio_format": "pcm16"})
        for event in pair.events:
            if event["type"] in UNMODELLED:
                continue
            models[event["type"]].model_validate(event, strict=True)
            seen.add(event["type"].removeprefix("conversation.item.").removeprefix("input_audio_transcription."))
    assert {"error", "failed", "completed", "delta", "created", "added", "done", "input_audio_buffer.cleared"} <= seen


UNMODELLED = {"transcription_session.created", "transcription_session.updated"}
"""Events of the beta: the client has no model of the first, and of the second only with a secret, as HTTP gives it."""
