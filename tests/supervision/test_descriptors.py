"""How many descriptors the settings may come to, and what is said where that is more than the system gives."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from streamer.config import Settings
from streamer.supervision import descriptors
from streamer.supervision.descriptors import RESERVE, required_descriptors


def test_each_kind_of_connection_has_its_share_and_so_has_all_else() -> None:
    server = {"max_sessions": 10, "max_handshakes": 20}
    assert required_descriptors(Settings(server=server, grpc={"port": 0})) == 30 + RESERVE
    assert required_descriptors(Settings(server=server, grpc={"max_connections": 5})) == 35 + RESERVE
    beside = {"metrics_address": "127.0.0.1:9100"}  # a listener of its own, with handshakes of its own
    assert required_descriptors(Settings(server=server | beside, grpc={"port": 0})) == 50 + RESERVE


@pytest.fixture
def limit() -> Iterator[int]:
    """This process's limit, raised for a test."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield descriptors.raise_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def settings(connections: int) -> Settings:
    """Such as allow for so many of all kinds."""
    half = connections // 2
    return Settings(
        server={"max_sessions": half, "max_handshakes": 1}, grpc={"max_connections": connections - half - 1}
    )


def test_settings_that_fit_are_not_warned_of(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    descriptors.ensure_limit(settings(limit - RESERVE))
    assert not caplog.records


def test_settings_that_do_not_fit_are_told_with_what_to_set(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    descriptors.ensure_limit(settings(limit - RESERVE + 1))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    for words in (f"may open {limit} ", f"allow for {limit + 1} ", "server.max_handshakes 1", f"limit to {limit + 1}"):
        assert words in said
