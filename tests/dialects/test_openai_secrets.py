"""Client secrets: short-lived credentials for browsers, issued for a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamer.access import new_key
from streamer.access.tokens import new_secret
from streamer.app import App
from tests.dialects.openai_serving import client_of, openai_serving
from tests.dialects.test_openai_realtime import refusal, session

PATH = "/v1/realtime/client_secrets"
BETA_PATH = "/v1/realtime/transcription_sessions"


@asynccontextmanager
async def issuing(tmp_path: Path, **access: Any) -> AsyncIterator[tuple[App, str]]:
    """A server with keys and a file of secrets, and a key."""
    file = tmp_path / "secrets"
    file.write_text(new_secret())
    secret, kept = new_key("pages")
    async with openai_serving(access={"keys": str(kept), "token_secrets_file": str(file), **access}) as app:
        yield app, secret


async def posted(app: App, key: str, body: Any = None, path: str = PATH) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(app.url + path, **({"data": body} if isinstance(body, bytes) else {"json": body or {}})) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_browser_connects_with_a_client_secret(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        now = app.authenticator.wall_clock()
        status, answer = await posted(app, key, {"expires_after": {"anchor": "created_at", "seconds": 60}})
        assert status == 200
        assert now + 59 <= answer["expires_at"] <= app.authenticator.wall_clock() + 60
        assert answer["session"]["type"] == "transcription"
        protocols = ["realtime", f"openai-insecure-api-key.{answer['value']}"]
        for _ in range(2):  # a secret may be used more than once
            async with session(app, protocols=protocols):
                pass


async def test_the_session_that_is_asked_for_is_checked_and_shown(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        audio = {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}}
        status, answer = await posted(app, key, {"session": {"type": "transcription", "audio": audio}})
        assert status == 200
        assert answer["session"]["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 900
        status, answer = await posted(app, key, {"session": {"type": "realtime"}})
        assert (status, answer["error"]["param"]) == (400, "session.type")


async def test_the_beta_has_its_path_and_shape(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        body = {"input_audio_format": "g711_ulaw", "client_secret": {"expires_at": {"seconds": 30}}}
        status, answer = await posted(app, key, body, BETA_PATH)
        assert (status, answer["input_audio_format"]) == (200, "g711_ulaw")
        async with session(app, headers={"Authorization": f"Bearer {answer['client_secret']['value']}"}):
            pass


async def test_a_client_secret_does_not_issue_another(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        value = (await posted(app, key))[1]["value"]
        status, answer = await posted(app, value)
    assert (status, answer["error"]["code"]) == (403, "forbidden")


async def test_a_secret_needs_a_key(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, _):
        for key in ("", "sk-wrong"):
            for path in (PATH, BETA_PATH):
                status, answer = await posted(app, key, path=path)
                assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


async def test_a_server_without_a_file_of_secrets_says_how_to_get_one() -> None:
    secret, kept = new_key("pages")
    async with openai_serving(access={"keys": str(kept)}) as app:
        status, answer = await posted(app, secret)
    assert status == 400
    assert "access.token_secrets_file" in answer["error"]["message"]
    async with openai_serving() as app:
        assert (await posted(app, ""))[0] == 400


async def test_a_life_that_the_server_would_not_accept_is_refused(tmp_path: Path) -> None:
    async with issuing(tmp_path, max_token_life_s=120) as (app, key):
        status, answer = await posted(app, key, {"expires_after": {"seconds": 600}})
        assert (status, answer["error"]["param"]) == (400, "expires_after.seconds")
        status, answer = await posted(app, key)
        assert answer["expires_at"] - app.authenticator.wall_clock() <= 120


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"expires_after":{"seconds":1}}', 400),
        (b'{"session":{"type":"\xff"}}', 400),
        (b"[" * 10_000, 400),
        (b" " * 20_000, 413),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(tmp_path: Path, body: bytes, status: int) -> None:
    async with issuing(tmp_path) as (app, key):
        got, answer = await posted(app, key, body)
    assert got == status
    assert len(answer["error"]["message"]) < 300


async def test_openais_client_gets_one(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key), client_of(app, key) as client:
        audio = {"input": {"turn_detection": {"type": "server_vad"}}}
        answer = await client.realtime.client_secrets.create(
            expires_after={"anchor": "created_at", "seconds": 60},
            session={"type": "transcription", "audio": audio},
        )
        type(answer).model_validate(answer.model_dump(), strict=True)
        async with client_of(app, answer.value) as browser, browser.realtime.connect(model="m") as connection:
            assert (await connection.recv()).type == "session.created"
        beta = await client.beta.realtime.transcription_sessions.create(input_audio_format="pcm16")
        assert beta.client_secret.value.count(".") == 2


async def test_a_secret_of_another_server_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with issuing(tmp_path) as (_, _), issuing(other) as (app, key):
        value = (await posted(app, key))[1]["value"]
        async with issuing(tmp_path) as (third, _):
            status, error = await refusal(third, headers={"Authorization": f"Bearer {value}"})
    assert (status, error["code"]) == (401, "invalid_api_key")
