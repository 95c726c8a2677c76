"""Pages of other sites and names of other hosts are refused on every path, with a line that says what to set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings
from tests.transports.certificates import Authority
from tests.transports.serving import SECOND, V2_START, V2_STOP, dialled, events, scripted, serving

EVIL = "evil.example:8080"
PATHS = ["/", "/page/page.js", "/metrics", "/api/v2/info", "/api/v1/health", "/livez", "/readyz", "/nowhere"]
STREAMS = ["/api/v1/simple", "/api/v2/segmented"]


async def status(app: App, path: str, **headers: str) -> int:
    """The answer to a request; an upgrade on the address of a stream."""
    if path.startswith("/api/v") and path not in PATHS:
        try:
            async with dialled(app, path, headers=headers):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status
    async with aiohttp.ClientSession() as http, http.get(app.url + path, headers=headers) as response:
        return response.status


def refusals(app: App, code: str) -> float | None:
    labels = {"transport": "websocket", "outcome": code}
    return app.registry.get_sample_value("streamer_handshakes_total", labels)


async def test_a_server_on_loopback_answers_no_other_host_on_any_path(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as app:
        assert {path: await status(app, path, Host=EVIL) for path in PATHS + STREAMS} == dict.fromkeys(
            PATHS + STREAMS, 403
        )
        assert refusals(app, "forbidden") == len(STREAMS)
        assert app.admission.active == 0
        assert "server.hosts" in caplog.text
        assert EVIL in caplog.text
        for name in ("localhost", "asr.localhost:1", f"127.0.0.1:{app.port}"):
            assert [await status(app, path, Host=name) for path in PATHS[:-1] + STREAMS] == [200] * 7 + [101] * 2


async def test_the_address_of_the_metrics_answers_to_its_own_hosts() -> None:
    async with serving(server={"metrics_address": "127.0.0.1:0"}) as app, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{app.metrics_port}/metrics"
        for host, expected in ((EVIL, 403), ("localhost:9464", 200)):
            async with http.get(url, headers={"Host": host}) as response:
                assert response.status == expected


async def test_names_of_the_setting_are_answered_and_origins_follow_them() -> None:
    async with serving(server={"hosts": "asr.example.org"}) as app:
        own = {"Host": "asr.example.org", "Origin": "https://asr.example.org"}
        assert [await status(app, path, **own) for path in ("/", *STREAMS)] == [200, 101, 101]
        assert await status(app, "/", Host=EVIL) == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", f"http://{EVIL}"])
async def test_a_page_of_another_site_is_refused_and_the_log_says_what_to_set(
    origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as app:
        assert [await status(app, path, Origin=origin) for path in STREAMS] == [403, 403]
        assert refusals(app, "forbidden_origin") == 2
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert all(origin in line and "access.origins" in line and str(app.port) in line for line in lines)
        assert len(lines) == 2


async def test_any_page_may_connect_if_the_setting_says_so() -> None:
    async with serving(access={"origins": "*"}) as app:
        assert await status(app, STREAMS[0], Origin="https://evil.example") == 101


async def streamed(app: App, host: str, origin: str, **options: Any) -> int:
    """What a page does: it is loaded, and opens a WebSocket to where it came from."""
    headers = {"Host": host, "Origin": origin}
    async with aiohttp.ClientSession() as http:
        async with http.get(app.url + "/", headers={"Host": host}, **options) as page:
            assert page.status == 200
        async with http.ws_connect(app.url + "/api/v2/simple", headers=headers, **options) as socket:
            await socket.send_json(V2_START)
            await socket.send_bytes(SECOND)
            await socket.send_json(V2_STOP)
            processed: int = (await events(socket))[-1]["processed"]
            return processed


async def test_the_servers_own_page_works_from_its_own_origin() -> None:
    async with serving() as app:
        for host in (f"localhost:{app.port}", f"127.0.0.1:{app.port}"):
            assert await streamed(app, host, f"http://{host}") == 16_000


async def test_the_servers_own_page_works_behind_a_proxy_that_keeps_the_host() -> None:
    async with serving(server={"hosts": "asr.example.org"}) as app:
        assert await streamed(app, "asr.example.org", "https://asr.example.org") == 16_000


async def test_the_servers_own_page_works_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    async with App(Settings(server={"port": 0}, tls=authority.settings), parts=scripted()) as app:
        host = f"localhost:{app.port}"
        assert await streamed(app, host, f"https://{host}", ssl=authority.trust()) == 16_000
        with pytest.raises(aiohttp.WSServerHandshakeError):  # a page without TLS is another origin
            await streamed(app, host, f"http://{host}", ssl=authority.trust())
