"""Our own errors, whatever transport they are behind, are answered, logged and counted, and tell a client nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import Metric

import streamer
from streamer.access import Authenticator
from streamer.access.factory import MetricsPolicy
from streamer.client import HandshakeRefused
from streamer.errors import ErrorCode
from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.scrapes import Scrapes, metrics_route
from tests.transports.carriers import serving_all


class RecordingObserver(Observer):
    def __init__(self) -> None:
        self.broke: list[tuple[Subsystem, BaseException]] = []

    def unexpected_error(self, where: Subsystem, error: BaseException) -> None:
        self.broke.append((where, error))


async def test_a_handler_that_raises_is_500_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def collect() -> Iterable[Metric]:
        raise ValueError("secret")

    heard, application = RecordingObserver(), web.Application()
    application.add_routes([metrics_route(Scrapes(collect), heard, MetricsPolicy.OPEN, Authenticator(None, time.time))])
    async with TestServer(application) as server, aiohttp.ClientSession() as client:
        answer = await client.get(server.make_url("/metrics"))
        assert answer.status == 500
        assert await answer.json() == {"code": "internal", "message": "internal server error", "retryable": True}
    [(where, error)] = heard.broke
    assert (where, str(error)) == (Subsystem.METRICS, "secret")
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize("carrier", ["websocket", "grpc"])
async def test_a_handshake_that_fails_by_a_bug_is_refused_and_counted(
    carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("/etc/secret")

    async with serving_all() as (app, notes):
        app.engine.check_admission = broken  # type: ignore[method-assign]
        url = app.grpc_url if carrier == "grpc" else f"{app.url}/api/v2/simple"
        assert url is not None
        with pytest.raises(HandshakeRefused) as refused:
            async with streamer.connect(url):
                pass
        failures = app.registry.get_sample_value("streamer_task_failures_total", {"subsystem": "api_routing"})
    assert (refused.value.code, refused.value.retryable) == (ErrorCode.INTERNAL, True)
    assert refused.value.message.endswith("(internal server error)")
    assert [str(error) for error in notes.broke] == ["'/etc/secret'"]
    assert failures == 1
    assert "KeyError: '/etc/secret'" in caplog.text
