"""Announcements by mDNS: of a real port, withdrawn with it, and never the reason why a server does not start."""

from __future__ import annotations

import logging
import sys

import pytest

from streamer.dialects import announcement
from streamer.dialects.announcement import Announcement
from streamer.errors import ConfigError

SERVICE = "_wyoming._tcp.local."
ADDRESS = "192.0.2.7"


class Port:
    """A listener that remembers what happened to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    async def start(self, host: str) -> int:
        self.happened.append("start")
        return 10_300

    async def stop(self, timeout_s: float) -> None:
        self.happened.append("stop")


async def test_a_port_is_found_while_it_is_announced_and_not_afterwards() -> None:
    zeroconf = pytest.importorskip("zeroconf.asyncio", reason="pip install 'streamer-audio[zeroconf]'")
    port = Port()
    announced = Announcement(port, SERVICE)
    assert await announced.start(ADDRESS) == 10_300
    if announced._zeroconf is None:
        pytest.skip("this machine has no interface for multicast")
    try:
        [name] = _names(announced)
        async with zeroconf.AsyncZeroconf() as other:
            info = await other.async_get_service_info(SERVICE, name, timeout=5_000)
            assert info is not None
            assert info.port == 10_300
            assert info.parsed_addresses() == [ADDRESS]
    finally:
        await announced.stop(1.0)
    assert port.happened == ["start", "stop"]
    assert announced._zeroconf is None


def _names(announced: Announcement) -> list[str]:
    assert announced._zeroconf is not None
    return [info.name for info in announced._zeroconf.zeroconf.registry.async_get_service_infos()]


async def test_a_loopback_port_is_not_announced_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("zeroconf.asyncio", reason="pip install 'streamer-audio[zeroconf]'")
    port = Port()
    announced = Announcement(port, SERVICE)
    with caplog.at_level(logging.WARNING):
        await announced.start("127.0.0.1")
    await announced.stop(1.0)
    assert "set server.host" in caplog.text
    assert port.happened == ["start", "stop"]


async def test_a_failed_announcement_is_logged_and_the_port_stays(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zeroconf.asyncio", reason="pip install 'streamer-audio[zeroconf]'")

    def broken(_: str) -> str:
        raise OSError("no network")

    monkeypatch.setattr(announcement, "own_address", broken)
    announced = Announcement(Port(), SERVICE)
    with caplog.at_level(logging.WARNING):
        assert await announced.start("0.0.0.0") == 10_300
    await announced.stop(1.0)
    assert "no network" in caplog.text


def test_without_the_extra_the_setting_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeroconf.asyncio", None)
    with pytest.raises(ConfigError, match=r"streamer-audio\[zeroconf\]"):
        Announcement(Port(), SERVICE)
