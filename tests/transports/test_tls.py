"""Encryption by the server itself, and certificates that change under it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from streamer.app import App, GrpcAvailability
from streamer.config import Settings, TlsSettings
from streamer.errors import ConfigError
from streamer.transports.tls import Certificate
from tests.connection.in_memory_server import RecordingObserver
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
    certificate, notes = Fallible(authority), RecordingObserver()
    watching = asyncio.create_task(certificate.watch(notes))
    await asyncio.wait(
        [watching, asyncio.ensure_future(certificate.looked_again.wait())], return_when="FIRST_COMPLETED"
    )
    assert not watching.done()
    assert [str(error) for error in notes.broke] == ["a bug", "a bug"]
    assert "RuntimeError: a bug" in caplog.text
    watching.cancel()


DAY_S = 86_400.0
ENDS = datetime(2031, 5, 1, 12, tzinfo=UTC)
BEGINS = ENDS - timedelta(days=90)


class Wall:
    """A wall clock that a test sets, by days before the end of the certificate."""

    def __init__(self, days_left: float) -> None:
        self.days_left = days_left

    def __call__(self) -> float:
        return ENDS.timestamp() - self.days_left * DAY_S


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Level and message of what was logged since the last time, but that the files were read."""
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return lines


def dated(authority: Authority) -> None:
    authority.issue(not_before=BEGINS.replace(tzinfo=None), not_after=ENDS.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("days_left", "level", "words"),
    [
        (91, "ERROR", "is not valid before 2031-01-31 12:00:00 UTC"),
        (14, "WARNING", "expires at 2031-05-01 12:00:00 UTC"),
        (0, "WARNING", "expires at"),
        (-0.001, "ERROR", "has expired at 2031-05-01 12:00:00 UTC"),
    ],
)
def test_a_certificate_out_of_its_dates_is_said_at_the_start_and_only_once(
    authority: Authority, caplog: pytest.LogCaptureFixture, days_left: float, level: str, words: str
) -> None:
    dated(authority)
    certificate = Certificate(authority.settings, Wall(days_left))
    [(logged, line)] = said(caplog)
    assert (logged, str(authority.certificate) in line, words in line) == (level, True, True)
    certificate.refresh()
    assert said(caplog) == []


def test_a_certificate_that_passes_into_its_last_days_and_its_end_is_said_then(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    dated(authority)
    wall = Wall(days_left=15)
    certificate = Certificate(authority.settings, wall)
    assert said(caplog) == []
    for days_left, levels in ((14.5, []), (13, ["WARNING"]), (1, []), (-1, ["ERROR"]), (-2, [])):
        wall.days_left = days_left
        assert not certificate.refresh()
        assert [level for level, _ in said(caplog)] == levels


def test_a_certificate_that_is_read_again_is_said_again_if_its_dates_are_no_better(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    dated(authority)
    certificate = Certificate(authority.settings, Wall(days_left=-1))
    dates = {"not_before": BEGINS.replace(tzinfo=None), "not_after": ENDS.replace(tzinfo=None) - timedelta(hours=1)}
    authority.issue(**dates)
    assert certificate.refresh()
    assert [level for level, _ in said(caplog)] == ["ERROR", "ERROR"]
    authority.issue(not_after=ENDS.replace(tzinfo=None) + timedelta(days=90))
    assert certificate.refresh()
    assert said(caplog) == []


async def test_when_the_certificate_expires_is_a_metric(authority: Authority) -> None:
    dated(authority)
    name = "streamer_certificate_expiry_timestamp_seconds"
    async with serving(authority) as app:
        assert app.registry.get_sample_value(name) == ENDS.timestamp()
    async with App(Settings(server={"port": 0}), parts=scripted()) as app:
        assert app.registry.get_sample_value(name) is None


async def test_an_expired_certificate_is_said_by_a_server_that_starts(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    authority.issue(not_before=datetime(2024, 1, 1), not_after=datetime(2024, 2, 1))
    settings = Settings(server={"port": 0}, grpc={"port": -1}, tls=authority.settings)
    async with App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED):
        assert [level for level, line in said(caplog) if "expired at 2024-02-01" in line] == ["ERROR"]


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
