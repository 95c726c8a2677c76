"""`streamer check --dialects`: what it says of a server that understands its clients, and of one that does not."""

from __future__ import annotations

import importlib.util

import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.cli.check_dialects import Attempt, attempts
from streamer.config import Settings
from streamer.errors import StreamerError
from tests.dialects.stage import transcribing
from tests.transports.serving import serving

NEEDS_WEIGHTS = pytest.mark.skipif(
    importlib.util.find_spec("moonshine_voice") is None, reason="pip install moonshine-voice==0.0.73"
)


async def tried(app: App, token: str | None = None) -> list[Attempt]:
    return [attempt async for attempt in attempts(app.url, token)]


@NEEDS_WEIGHTS
async def test_each_protocol_hears_the_words_of_the_native_one() -> None:
    dialects = {"serve": ["all"], "wyoming_port": -1, "calls_audiosocket_port": -1}
    settings = Settings(server={"port": 0, "model": "moonshine"}, grpc={"port": 0}, dialects=dialects)
    async with App(settings) as app:
        found = await tried(app)
    assert [(attempt.dialect, attempt.tried) for attempt in found] == [
        ("v2", "file"),
        ("openai", "file"),
        ("openai", "Realtime"),
        ("deepgram", "file"),
        ("deepgram", "live"),
        ("vosk", "live"),
        ("wyoming", "live"),
        ("assemblyai", "live"),
        ("speechmatics", "live"),
        ("calls", "AudioSocket"),
    ]
    assert {attempt.transcript for attempt in found} == {
        "The weather today is cold and dark. Please turn on the light in the kitchen."
    }
    assert not [attempt for attempt in found if attempt.problem]


async def test_a_server_without_protocols_of_other_services_has_only_its_own() -> None:
    async with serving(transcribing(), dialects={"serve": ["none"]}) as app:
        [only] = await tried(app)
    assert only.dialect == "v2"


async def test_another_transcript_than_the_native_one_is_a_problem() -> None:
    from streamer.session.actions import Output

    texts = iter(range(1_000))

    def changing(job):
        return Output.of({"text": f"word {next(texts)}"})

    async with serving(transcribing(changing), dialects={"serve": ["deepgram"]}) as app:
        _, *others = await tried(app)
    assert [attempt.problem for attempt in others] == ["expected the words of v2"] * 2


async def test_an_address_without_a_server_is_named() -> None:
    with pytest.raises(StreamerError, match=r"http://127\.0\.0\.1:9: expected a Streamer server, got"):
        [attempt async for attempt in attempts("http://127.0.0.1:9", None)]


async def test_a_wrong_key_is_refused_by_name() -> None:
    secret, key = new_key("me")
    async with serving(transcribing(), access={"keys": (str(key),)}) as app:
        with pytest.raises(StreamerError, match="401"):
            await tried(app, "wrong")
        assert not [attempt for attempt in await tried(app, secret) if "401" in attempt.problem]
