"""What answers beside the streams."""

from __future__ import annotations

import aiohttp
import pytest

from streamer.access import new_key
from streamer.inference.contract import Readiness
from streamer.testing import ScriptedEngine
from tests.transports.serving import V2_START, dialled, events, scripted, serving


@pytest.mark.parametrize(("path", "body"), [("/api/v1/health", {"status": "healthy"}), ("/livez", {"status": "alive"})])
async def test_probes(path: str, body: dict[str, str]) -> None:
    async with serving() as app, aiohttp.ClientSession() as http, http.get(app.url + path) as response:
        assert (response.status, await response.json()) == (200, body)


async def test_readyz_says_why_not() -> None:
    parts = scripted()
    assert isinstance(parts.engine, ScriptedEngine)
    async with serving(parts) as app, aiohttp.ClientSession() as http:
        async with http.get(app.url + "/readyz") as response:
            assert (response.status, await response.json()) == (200, {"status": "ready"})
        parts.engine.readiness = Readiness(False, "no worker answers")
        async with http.get(app.url + "/readyz") as response:
            assert (response.status, await response.json()) == (
                503,
                {"status": "not ready", "reason": "no worker answers"},
            )


async def test_info_says_what_is_served() -> None:
    async with serving() as app, aiohttp.ClientSession() as http, http.get(app.url + "/api/v2/info") as response:
        body = await response.json()
        assert body["model"] == {"name": "scripted", "sample_rate": 16_000}
        assert body["modes"] == ["simple", "segmented"]
        assert body["dialects"] == ["v1", "v2"]
        assert "mulaw" in body["encodings"]
        assert body["limits"]["max_audio_message_bytes"] == 2**20


@pytest.mark.parametrize(("anonymous", "status"), [("health,info", 200), ("health", 401)])
async def test_info_is_for_strangers_or_for_whoever_has_a_key(anonymous: str, status: int) -> None:
    secret, kept = new_key("tests")
    async with (
        serving(access={"keys": str(kept), "anonymous": anonymous}) as app,
        aiohttp.ClientSession(app.url) as http,
    ):
        async with http.get("/api/v2/info") as response:
            assert response.status == status
            assert (response.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
        async with http.get("/api/v2/info", headers={"Authorization": f"Bearer {secret}"}) as response:
            assert response.status == 200


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
async def test_metrics_are_prometheus_text_and_openmetrics_where_asked(accept: str) -> None:
    async with (
        serving() as app,
        aiohttp.ClientSession() as http,
        http.get(app.url + "/metrics", headers={"Accept": accept}) as response,
    ):
        assert response.status == 200
        kind = "application/openmetrics-text" if accept else "text/plain"
        assert response.headers["Content-Type"].startswith(kind)


async def test_a_stream_address_without_an_upgrade_asks_for_one() -> None:
    async with serving() as app, aiohttp.ClientSession() as http, http.get(app.url + "/api/v2/simple") as response:
        assert response.status == 426
        assert app.admission.active == 0


async def test_a_server_whose_scorer_has_failed_ends_its_sessions_and_asks_to_be_started_anew() -> None:
    async with serving() as app, dialled(app) as stream:
        await stream.send_json(V2_START)
        assert (await stream.receive_json())["type"] == "started"
        assert app.scoring.on_failure is not None
        app.scoring.on_failure(MemoryError())
        assert [(event["code"], event["fatal"]) for event in await events(stream)] == [("internal", True)]
        assert stream.close_code == 1011
        async with aiohttp.ClientSession() as http:
            for path in ("/livez", "/readyz"):
                async with http.get(app.url + path) as response:
                    assert (response.status, (await response.json())["reason"]) == (503, "speech scoring has failed")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app):
                pass
        assert refused.value.status == 500
