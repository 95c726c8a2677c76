"""The server as a whole: every part of it is stopped, whatever another part does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from streamer.parts import AppParts
from streamer.telemetry.telemetry import Telemetry
from streamer.testing import ScriptedEngine, ScriptedScoring
from tests.transports.certificates import Authority
from tests.transports.serving import scripted

PARTS = ("listener", "grpc", "engine", "scoring", "telemetry")


class Stops:
    """Notes the parts in the order in which they are stopped; some of them fail at it."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.stopped: list[str] = []

    def stop(self, part: str) -> None:
        self.stopped.append(part)
        if part in self.broken:
            raise RuntimeError(f"{part} does not stop")


class Engine(ScriptedEngine):
    def __init__(self, stops: Stops) -> None:
        super().__init__()
        self.stops = stops

    async def stop(self, timeout_s: float) -> None:
        self.stops.stop("engine")


class Scoring(ScriptedScoring):
    def __init__(self, stops: Stops) -> None:
        super().__init__()
        self.stops = stops

    async def stop(self) -> None:
        self.stops.stop("scoring")


class Measured(Telemetry):
    def __init__(self, stops: Stops) -> None:
        super().__init__("scripted", {})
        self.stops = stops

    async def stop(self) -> None:
        await super().stop()
        self.stops.stop("telemetry")


async def started(stops: Stops, **sections: object) -> App:
    """A server that serves; its listeners stop for good before they are noted."""
    parts = AppParts(Engine(stops), Scoring(stops), scripted().model, Measured(stops))
    settings = Settings(server={"port": 0}, grpc={"port": -1}, **sections)
    app = App(settings, parts=parts, grpc=GrpcAvailability.REQUIRED)
    await app.start()
    listener, grpc_server = app._listeners[0], app._grpc_server
    assert grpc_server is not None
    stop_listener, stop_grpc = listener.stop, grpc_server.stop

    async def listener_stops() -> None:
        await stop_listener()
        stops.stop("listener")

    async def grpc_stops(grace_s: float) -> None:
        await stop_grpc(grace_s)
        stops.stop("grpc")

    listener.stop, grpc_server.stop = listener_stops, grpc_stops  # type: ignore[method-assign]
    return app


@pytest.mark.parametrize("broken", PARTS)
async def test_a_part_that_does_not_stop_keeps_no_other_from_stopping(broken: str) -> None:
    stops = Stops(broken)
    app = await started(stops)
    with pytest.raises(RuntimeError, match=f"{broken} does not stop"):
        await app.stop()
    assert stops.stopped == list(PARTS)


async def test_each_part_that_does_not_stop_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    stops = Stops(*PARTS)
    app = await started(stops)
    with pytest.raises(RuntimeError, match="telemetry does not stop"):
        await app.stop()
    assert stops.stopped == list(PARTS)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        f"{part} does not stop" for part in PARTS
    ]
    failures = app.registry.get_sample_value("streamer_task_failures_total", {"subsystem": "other"})
    assert failures == len(PARTS)


async def test_a_server_may_be_stopped_twice_and_its_listeners_stop_once() -> None:
    stops = Stops()
    app = await started(stops)
    await app.stop()
    await app.stop()
    assert (stops.stopped.count("listener"), stops.stopped.count("grpc")) == (1, 1)


async def test_nothing_watches_the_certificate_of_a_server_that_has_stopped(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    before = asyncio.all_tasks()
    app = await started(Stops(), tls=authority.settings)
    assert "watch" in {task.get_coro().__name__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
    await app.stop()
    assert asyncio.all_tasks() == before
