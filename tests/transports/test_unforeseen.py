"""Our own errors behind HTTP are answered, logged and counted, and tell a client nothing."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import Metric

from streamer.telemetry.observer import Observer, Subsystem
from streamer.transports.http import metrics_route


class Heard(Observer):
    def __init__(self) -> None:
        self.broke: list[tuple[Subsystem, BaseException]] = []

    def broken(self, where: Subsystem, error: BaseException) -> None:
        self.broke.append((where, error))


async def test_a_handler_that_raises_is_500_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def collect() -> Iterable[Metric]:
        raise ValueError("secret")

    heard, application = Heard(), web.Application()
    application.add_routes([metrics_route(collect, heard)])
    async with TestServer(application) as server, aiohttp.ClientSession() as client:
        answer = await client.get(server.make_url("/metrics"))
        assert answer.status == 500
        assert await answer.json() == {"code": "internal", "message": "internal server error", "retryable": True}
    [(where, error)] = heard.broke
    assert (where, str(error)) == (Subsystem.METRICS, "secret")
    assert "ValueError: secret" in caplog.text
