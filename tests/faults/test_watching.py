"""Rows 27, 29 and 30 of the fault table: no room for log and traces, bad collectors, labels of a client's choice."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from tests.cli.serving import environment
from tests.faults.arena import Arena, LocalArena
from tests.faults.beside import RemoteArena, remote
from tests.faults.fault import SOME, Fault, Record, complaint, fatal, fault, harmless, session
from tests.faults.peers import FORMAT, TRANSPORTS
from tests.faults.served import ServerProcess
from tests.faults.servers import serving
from tests.faults.sight import Line
from tests.telemetry.collector import http_collector
from tests.telemetry.test_traces_for_real import otel

FULL = Path("/dev/full")
"""Every write fails as on a disk without room."""
HOSTILE = 'x"}\n\\evil{label="1"} 7 # \x7f' + "long" * 100

# Row 27: no room on the disk ----------------------------------------------------------------------


class Silent(RemoteArena):
    """A server whose log is lost."""

    neighbour = replace(RemoteArena.neighbour, logged=())

    def __init__(self, server: ServerProcess, grpc_port: int) -> None:
        super().__init__(server)
        self._grpc_port = grpc_port

    def port_of(self, way: str) -> int:
        return self._grpc_port if way == "grpc" else super().port_of(way)

    def records(self) -> Sequence[Line]:
        return ()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@asynccontextmanager
async def served_onto_a_full_disk(**variables: str) -> AsyncIterator[Silent]:
    """A server whose stdout and stderr take nothing: it cannot say where it listens."""
    port, grpc_port = free_port(), free_port()
    command = (sys.executable, "-m", "streamer", "serve", "--port", str(port), "--grpc-port", str(grpc_port))
    with FULL.open("wb") as full:  # noqa: ASYNC230 (no file to wait for)
        process = await asyncio.create_subprocess_exec(
            *(*command, "--set", "log.format=json", "--set", "drain.lag_s=0"),
            env=environment(**variables),
            stdin=DEVNULL,
            stdout=full,
            stderr=full,
        )
    try:
        server = ServerProcess(process, FULL, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(20):
            while True:
                with suppress(aiohttp.ClientError):
                    await server.until_ready()
                    break
                await asyncio.sleep(0.05)
        arena = Silent(server, grpc_port)
        await arena.listen_alone()
        yield arena
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


NO_ROOM = Fault(counted={"telemetry_dropped.logs": SOME, "telemetry_dropped.spans": SOME})


@fault(27, replace(harmless() * len(TRANSPORTS), logged=()) + NO_ROOM)
@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
async def test_a_full_disk_costs_the_log_and_the_traces_nothing_else(request: pytest.FixtureRequest) -> None:
    async with served_onto_a_full_disk(OTEL_TRACES_EXPORTER="console", OTEL_BSP_SCHEDULE_DELAY="50") as arena:
        async with arena.observed(request.node):
            for way in TRANSPORTS:
                async with arena.peer(way) as peer:
                    await peer.still_works()
            for lost in NO_ROOM.counted:
                await arena.sight.until_counted(lost)
        arena.server.process.terminate()
        assert await arena.server.ended() == 0


# Row 29: bad collectors ---------------------------------------------------------------------------

EXPORTER = Record("Failed to export", SOME, level="error")
"""By the exporter itself."""
LOST_SPANS = Fault(
    counted={"telemetry_dropped.spans": SOME}, logged=(Record("spans were lost", SOME, level="warning"), EXPORTER)
)


@fault(29, harmless(failed=0) * 2 * len(TRANSPORTS) + LOST_SPANS)
@pytest.mark.parametrize("mood", ["failing", "slow", "dead"])
async def test_a_bad_collector_costs_streams_nothing_and_what_it_lost_is_counted(
    request: pytest.FixtureRequest, mood: str
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    with http_collector(mood) as collector:
        variables = otel(collector) | {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"}
        variables["OTEL_BSP_SCHEDULE_DELAY"] = "1000"  # few batches: of one message five lines come through
        if mood == "dead":
            variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        async with remote("stub", environment=variables) as arena:
            await arena.sight.until_counted("telemetry_dropped.spans")  # the connection to the collector is there
            async with arena.observed(request.node):
                for _ in range(2):
                    for way in TRANSPORTS:
                        async with arena.peer(way) as peer:
                            await peer.still_works()
                await arena.sight.until_counted("telemetry_dropped.spans")
            arena.server.process.send_signal(signal.SIGINT)
            assert await arena.server.ended() == 0, "the end does not wait for the collector"


# Row 30: labels that a client would choose --------------------------------------------------------


@pytest_asyncio.fixture
async def quick() -> AsyncIterator[LocalArena]:
    async with serving(
        limits={"start_timeout_s": 0.5}, session={"stall_timeout_s": 0}, access={"origins": "*"}
    ) as arena:
        yield arena


GARBAGE = [f"/api/{HOSTILE[:20]}/simple", "/api/v2/evil", "/metrics/evil", "/%00"]
EVIL_HEADERS = {"User-Agent": "evil", "traceparent": "evil", "X-Evil": "evil", "Origin": "http://evil"}
STARTS = (
    {"metadata": {"evil": HOSTILE[:200]}, "traceparent": "evil", "options": {"evil": HOSTILE}},
    {"format": FORMAT | {"encoding": "evil"}},
    {"evil": HOSTILE},
)
BAD, STATE, FORMAT_ = ErrorCode.BAD_REQUEST, ErrorCode.BAD_STATE, ErrorCode.INVALID_FORMAT
SOCKETS = (
    complaint(BAD)
    + fatal(FORMAT_)
    + session(
        ErrorCode.START_TIMEOUT, end="start_timeout", errors=[BAD, STATE, STATE, BAD, STATE, ErrorCode.START_TIMEOUT]
    )
)


@fault(30, SOCKETS + complaint(BAD))
async def test_no_client_makes_a_series_or_a_label(quick: LocalArena, request: pytest.FixtureRequest) -> None:
    async with quick.observed(request.node), aiohttp.ClientSession() as http:
        before = await series(quick, http)
        for method in ("GET", "POST", "BREW"):
            for path in GARBAGE:
                async with http.request(method, quick.app.url + path) as response:
                    assert response.status in (400, 404, 405)
        for start in STARTS:
            async with quick.socket(
                "v2", query="?evil=evil", headers=EVIL_HEADERS, protocols=("evil",), origin="http://evil"
            ) as peer:
                await peer.start(**start)
                await peer.audio()
                await peer.say({"type": "flush", "id": "evil"})
                await peer.say({"type": HOSTILE})
                await peer.stop()
                await peer.rest()
        await over_grpc(quick)
        assert await series(quick, http) == before


async def over_grpc(arena: LocalArena) -> None:
    headers = {"user-agent": "evil", "traceparent": "evil", "x-evil": "evil"}
    async with arena.call(headers=headers) as peer:
        await peer.start(**STARTS[0])
        await peer.frame(b"evil")
        await peer.stop()
        await peer.rest()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{arena.port_of('grpc')}") as channel:
        for method in ("/streamer.v2.Streamer/evil", "/evil/evil", f"/{HOSTILE.encode().hex()}/x"):
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(method)(b"evil")


async def series(arena: Arena, http: aiohttp.ClientSession) -> set[str]:
    """Names and labels; what anybody says in them would be here."""
    async with http.get(f"http://127.0.0.1:{arena.port_of('v2')}/metrics") as answer:
        text = await answer.text()
    assert "evil" not in text
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
