"""Who may read /metrics, and what answers at an address of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamer.access import new_key, new_secret
from streamer.access.tokens import Claims, mint, parse_secrets
from streamer.app import App
from streamer.config import Settings
from streamer.errors import ConfigError
from tests.transports.serving import scripted, serving

SECRET, KEPT = new_key("scraper")
PUBLIC = "0.0.0.0"
LOOPBACK = "127.0.0.1"
KEYS = {"keys": str(KEPT)}
NO_KEYS: Mapping[str, Any] = {}


async def read(port: int | None, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("host", "access", "policy", "stranger", "holder"),
    [
        (LOOPBACK, NO_KEYS, "auto", 200, 200),
        (LOOPBACK, KEYS, "auto", 200, 200),
        (LOOPBACK, KEYS, "key", 401, 200),
        (PUBLIC, NO_KEYS, "auto", 403, 403),
        (PUBLIC, NO_KEYS, "open", 200, 200),
        (PUBLIC, KEYS, "auto", 401, 200),
        (PUBLIC, KEYS, "key", 401, 200),
        (PUBLIC, KEYS, "open", 200, 200),
    ],
)
async def test_the_policy_says_who_reads_the_metrics(
    host: str, access: Mapping[str, Any], policy: str, stranger: int, holder: int
) -> None:
    async with serving(server={"host": host, "metrics": policy}, access=access) as app:
        assert (await read(app.port))[0] == stranger
        assert (await read(app.port, Authorization="Bearer sk_wrong"))[0] == stranger
        assert (await read(app.port, Authorization=f"Bearer {SECRET}"))[0] == holder
        for probe in ("/livez", "/readyz", "/api/v1/health"):
            assert (await read(app.port, probe))[0] == 200


@pytest.mark.parametrize("access", [NO_KEYS, KEYS])
async def test_a_refusal_says_what_to_set_to_the_stranger_and_in_the_log(
    access: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(server={"host": PUBLIC}, access=access) as app:
        _, body = await read(app.port)
        for setting in ("server.metrics_address", "server.metrics"):
            assert setting in body
            assert setting in caplog.text
        assert "streamer_" not in body


async def test_a_token_opens_the_metrics_as_a_key_does(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(new_secret())
    now = int(time.time())
    token = mint(Claims("scraper", "id", now, now + 60, once=True), parse_secrets(secrets.read_text())[0])
    async with serving(server={"host": PUBLIC}, access={"token_secrets_file": str(secrets)}) as app:
        assert (await read(app.port, f"/metrics?access_token={token}"))[0] == 200
        assert (await read(app.port, f"/metrics?access_token={token}"))[0] == 401  # it works once


@pytest.mark.parametrize(("policy", "status"), [("auto", 200), ("open", 200), ("key", 401)])
async def test_at_an_address_of_their_own_the_metrics_are_open_unless_a_key_is_asked_for(
    policy: str, status: int
) -> None:
    server = {"host": PUBLIC, "metrics": policy, "metrics_address": "0.0.0.0:0"}
    async with serving(server=server, access=KEYS) as app:
        assert (await read(app.metrics_port))[0] == status
        assert (await read(app.metrics_port, Authorization=f"Bearer {SECRET}"))[0] == 200
        assert (await read(app.port, Authorization=f"Bearer {SECRET}"))[0] == 404


def test_a_key_can_only_be_asked_for_if_there_is_one() -> None:
    with pytest.raises(ConfigError, match=r"^server\.metrics: expected auto or open, unless access\.keys"):
        App(Settings(server={"metrics": "key"}), parts=scripted())


async def test_probes_answer_at_the_address_of_the_metrics_while_strangers_fill_the_other_one() -> None:
    server = {"metrics_address": "127.0.0.1:0", "max_handshakes": 3, "max_handshakes_per_address": 0}
    async with serving(server=server) as app:
        silent = [await asyncio.open_connection("127.0.0.1", app.port) for _ in range(10)]
        for probe in ("/livez", "/readyz", "/api/v1/health", "/metrics"):
            assert (await read(app.metrics_port, probe))[0] == 200
        for path in ("/", "/api/v2/info", "/api/v2/simple"):
            assert (await read(app.metrics_port, path))[0] == 404
        for _, writer in silent:
            writer.close()
