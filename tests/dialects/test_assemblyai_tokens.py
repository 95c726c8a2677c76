"""AssemblyAI's temporary tokens: for a browser, which has no key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from streamer.access.keys import new_key
from streamer.access.tokens import TokenExpired, TokenReader, new_secret, parse_secrets
from streamer.app import App
from tests.dialects.recogniser import SENTENCES, conversation, dialect_server
from tests.dialects.test_assemblyai import SDK, TERMINATE, dialled, finals, refused, spoken
from tests.transports.certificates import Authority


@asynccontextmanager
async def issuing(folder: Path, **sections: Any) -> AsyncIterator[tuple[App, str]]:
    """A server with keys and a file of secrets, and a key."""
    file = folder / "secrets"
    file.write_text(new_secret())
    secret, kept = new_key("pages")
    access = {"keys": str(kept), "token_secrets_file": str(file), **sections.pop("access", {})}
    async with dialect_server("assemblyai", access=access, **sections) as app:
        yield app, secret


async def fetched(app: App, key: str, **query: Any) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": key} if key else {}
    async with (
        aiohttp.ClientSession() as http,
        http.get(app.url + "/v3/token", params=query, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_a_token_in_the_url_opens_one_session(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        status, answer = await fetched(app, key, expires_in_seconds=60)
        assert (status, answer["expires_in_seconds"]) == (200, 60)
        async with dialled(app, token=answer["token"]) as socket:
            assert finals(await spoken(socket, conversation())) == list(SENTENCES[:2])
        status, _ = await refused(app, sample_rate="16000", token=answer["token"])
        assert status == 401


async def test_a_session_may_last_longer_than_its_token_may_be_used(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        _, answer = await fetched(app, key, expires_in_seconds=60, max_session_duration_seconds=300)
    claims = claims_of(answer["token"])
    assert (claims["use_by"] - claims["iat"], claims["exp"] - claims["iat"]) == (60, 360)
    assert (claims["max_stream_s"], claims["once"]) == (300, True)
    reader = TokenReader(parse_secrets((tmp_path / "secrets").read_text()), max_life_s=3_600)
    assert reader.read(answer["token"], claims["iat"] + 59).sub == "pages"
    with pytest.raises(TokenExpired):
        reader.read(answer["token"], claims["iat"] + 60)


async def test_without_a_length_a_session_may_last_as_long_as_the_server_accepts_its_token(tmp_path: Path) -> None:
    async with issuing(tmp_path, access={"max_token_life_s": 400}) as (app, key):
        _, answer = await fetched(app, key, expires_in_seconds=60)
    claims = claims_of(answer["token"])
    assert claims["exp"] - claims["iat"] == 400


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "expires_in_seconds"),
        ({"expires_in_seconds": 0}, "expires_in_seconds"),
        ({"expires_in_seconds": 601}, "expires_in_seconds"),
        ({"expires_in_seconds": "soon"}, "expires_in_seconds"),
        ({"expires_in_seconds": 60, "max_session_duration_seconds": 59}, "max_session_duration_seconds"),
        ({"expires_in_seconds": 60, "max_session_duration_seconds": 3_600}, "max_session_duration_seconds"),
    ],
)
async def test_a_length_that_cannot_be_had_is_refused(tmp_path: Path, query: dict[str, Any], field: str) -> None:
    async with issuing(tmp_path) as (app, key):
        status, answer = await fetched(app, key, **query)
    assert status == 400
    assert answer["error"].startswith(field)


async def test_a_token_needs_a_key_that_the_server_knows(tmp_path: Path) -> None:
    async with issuing(tmp_path) as (app, key):
        for wrong in ("", "wrong"):
            assert (await fetched(app, wrong, expires_in_seconds=60))[0] == 401
        _, answer = await fetched(app, key, expires_in_seconds=60)
        assert (await fetched(app, answer["token"], expires_in_seconds=60))[0] == 403


async def test_a_server_without_a_file_of_secrets_says_how_to_get_one() -> None:
    async with dialect_server("assemblyai") as app:
        status, answer = await fetched(app, "any", expires_in_seconds=60)
    assert status == 400
    assert "access.token_secrets_file" in answer["error"]


async def test_the_official_client_gets_a_token_and_connects_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    v3 = pytest.importorskip("assemblyai.streaming.v3", reason=SDK)
    authority = Authority(tmp_path)
    authority.issue()
    trusted = tmp_path / "ca.pem"
    authority._authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))  # its HTTP client takes no context
    async with issuing(tmp_path, tls=authority.settings) as (app, key):
        options = v3.StreamingClientOptions(api_key=key, api_host=f"localhost:{app.port}")
        client = v3.StreamingClient(options)
        token = await asyncio.to_thread(client.create_temporary_token, 60, 120)
        client._client._http_client.close()  # nothing else closes its connection
        url = f"wss://localhost:{app.port}/v3/ws?sample_rate=16000&token={token}"
        async with aiohttp.ClientSession() as http, http.ws_connect(url, ssl=authority.trust()) as socket:
            await socket.send_str(TERMINATE)
            assert [message.json()["type"] async for message in socket] == ["Begin", "Termination"]
