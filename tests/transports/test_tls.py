"""Encryption by the server itself, and certificates that change under it."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings, TlsSettings
from streamer.errors import ConfigError
from streamer.transports.tls import Certificate
from tests.runtime.stage import Notes
from tests.transports.certificates import Authority
from tests.transports.serving import SECOND, V2_START, V2_STOP, events, scripted


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue()
    return authority


def serving(authority: Authority) -> App:
    return App(Settings(server={"port": 0, "handshake_timeout_s": 0.3}, tls=authority.settings), parts=scripted())


async def serial(app: App, authority: Authority) -> object:
    """Of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", app.port, ssl=authority.trust())
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return certificate["serialNumber"]


async def test_a_stream_over_tls(authority: Authority) -> None:
    async with serving(authority) as app, aiohttp.ClientSession() as http:
        assert app.url.startswith("https://")
        async with http.ws_connect(app.url + "/api/v2/simple", ssl=authority.trust()) as socket:
            await socket.send_json(V2_START)
            await socket.send_bytes(SECOND)
            await socket.send_json(V2_STOP)
            assert (await events(socket))[-1]["processed"] == 16_000


async def test_a_new_certificate_is_shown_to_new_connections_and_ends_no_old_one(authority: Authority) -> None:
    async with serving(authority) as app, aiohttp.ClientSession() as http:
        first = await serial(app, authority)
        async with http.ws_connect(app.url + "/api/v2/simple", ssl=authority.trust()) as socket:
            await socket.send_json(V2_START)
            authority.issue()
            for _ in range(200):  # it is looked at every 50 ms
                if await serial(app, authority) != first:
                    break
                await asyncio.sleep(0.02)
            assert await serial(app, authority) != first
            await socket.send_bytes(SECOND)
            await socket.send_json(V2_STOP)
            assert (await events(socket))[-1]["processed"] == 16_000


def test_half_of_a_new_pair_changes_nothing_until_the_other_half_comes(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(authority.settings)
    assert not certificate.refresh()
    authority.issue(key=False)
    assert not certificate.refresh()
    assert "the old certificate stays" in caplog.text
    authority.certificate.unlink()
    assert not certificate.refresh()
    authority.issue()
    assert certificate.refresh()
    assert not certificate.refresh()


class Fallible(Certificate):
    """Fails twice in a way that nobody foresaw."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(authority.settings)
        self.looks = 0
        self.looked_again = asyncio.Event()

    def refresh(self) -> bool:
        self.looks += 1
        if self.looks <= 2:
            raise RuntimeError("a bug")
        self.looked_again.set()
        return super().refresh()


async def test_a_bug_while_the_certificate_is_looked_at_is_counted_and_the_next_look_comes(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, notes = Fallible(authority), Notes()
    watching = asyncio.create_task(certificate.watch(notes))
    await asyncio.wait(
        [watching, asyncio.ensure_future(certificate.looked_again.wait())], return_when="FIRST_COMPLETED"
    )
    assert not watching.done()
    assert [str(error) for error in notes.broke] == ["a bug", "a bug"]
    assert "RuntimeError: a bug" in caplog.text
    watching.cancel()


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_pair_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pair.pem"
    path.write_text(content)
    for settings in (TlsSettings(str(path)), TlsSettings(str(tmp_path / "none.pem"))):
        with pytest.raises(ConfigError, match=r"^tls: .*\.pem"):
            Certificate(settings)


async def test_a_tls_handshake_that_never_ends_is_cut_off(authority: Authority) -> None:
    async with serving(authority) as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
        writer.write(b"\x16\x03\x01")
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):  # either end will do
                assert await reader.read() == b""
        writer.close()


def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    assert Certificate(authority.settings).context.minimum_version is ssl.TLSVersion.TLSv1_2


async def test_metrics_answer_at_their_own_address_alone_where_they_have_one() -> None:
    settings = Settings(server={"port": 0, "metrics_address": "127.0.0.1:0"})
    async with App(settings, parts=scripted()) as app, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{app.metrics_port}/metrics") as response:
            assert response.status == 200
        async with http.get(app.url + "/metrics") as response:
            assert response.status == 404
        async with http.get(f"http://127.0.0.1:{app.metrics_port}/api/v2/info") as response:
            assert response.status == 404
