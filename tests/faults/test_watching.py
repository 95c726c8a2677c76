"""Rows 27 and 30 of the fault table: no room for the log or the traces; labels that a client would like to choose.

Row 29, collectors that are down, slow or silent, is held in tests/telemetry/test_traces_for_real.py.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from streamer.app import App
from tests.cli.serving import environment
from tests.faults.arena import FORMAT, SECOND
from tests.faults.beside import answered, neighbour, total
from tests.faults.served import Served
from tests.transports.serving import scripted, serving

FULL = Path("/dev/full")
"""Every write fails as on a disk without room."""
HOSTILE = 'x"}\n\\evil{label="1"} 7 # \x7f' + "long" * 100


@asynccontextmanager
async def served_onto_a_full_disk(**variables: str) -> AsyncIterator[Served]:
    """A server whose stdout and stderr take nothing: it cannot say where it listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "streamer", "serve", "--port", str(port), "--grpc-port", "0")
    with FULL.open("wb") as full:  # noqa: ASYNC230 (no file to wait for)
        process = await asyncio.create_subprocess_exec(
            *(*command, "--set", "log.format=json", "--set", "drain.lag_s=0"),
            env=environment(**variables),
            stdin=DEVNULL,
            stdout=full,
            stderr=full,
        )
    try:
        server = Served(process, FULL, f"http://127.0.0.1:{port}")
        async with asyncio.timeout(20):
            while True:
                try:
                    await server.until_ready()
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
async def test_a_full_disk_costs_the_log_and_the_traces_nothing_else() -> None:
    async with served_onto_a_full_disk(OTEL_TRACES_EXPORTER="console", OTEL_BSP_SCHEDULE_DELAY="50") as server:
        before = await server.metrics()
        for _ in range(3):
            async with neighbour(server):
                await answered(server)
        async with asyncio.timeout(10):
            while not await dropped(server, "logs") or not await dropped(server, "spans"):
                await asyncio.sleep(0.05)
        after = await server.metrics()
        assert total(after, "streamer_sessions_closed_total", reason="stopped") == 6
        assert total(after, "streamer_task_failures_total") == 0
        assert after["process_open_fds"] <= before["process_open_fds"]
        assert (await server.probe()).status == 200
        server.process.terminate()
        assert await server.ended() == 0


async def dropped(server: Served, signal: str) -> float:
    return total(await server.metrics(), "streamer_telemetry_dropped_total", signal=signal)


async def test_no_client_makes_a_series_or_a_label() -> None:
    async with serving(scripted(), limits={"start_timeout_s": 0.5}) as app, aiohttp.ClientSession() as http:
        before = await series(app, http)
        for method in ("GET", "POST", "BREW"):
            for path in (f"/api/{HOSTILE[:20]}/simple", "/api/v2/evil", "/metrics/evil", "/%00"):
                async with http.request(method, app.url + path) as response:
                    assert response.status in (400, 404, 405)
        headers = {"User-Agent": "evil", "traceparent": "evil", "X-Evil": "evil", "Origin": "http://evil"}
        for start in (
            {"metadata": {"evil": HOSTILE[:200]}, "traceparent": "evil", "options": {"evil": HOSTILE}},
            {"format": FORMAT | {"encoding": "evil"}},
            {"evil": HOSTILE},
        ):
            async with http.ws_connect(
                f"{app.url}/api/v2/simple?evil=evil", headers=headers, protocols=("evil",), origin="http://evil"
            ) as peer:
                await peer.send_json({"type": "start", "format": FORMAT} | start)
                await peer.send_bytes(SECOND)
                await peer.send_json({"type": "flush", "id": "evil"})
                await peer.send_json({"type": HOSTILE})
                await peer.send_json({"type": "stop"})
                async for _ in peer:
                    pass
        assert await series(app, http) == before


async def series(app: App, http: aiohttp.ClientSession) -> set[str]:
    """Names and labels; what anybody says in them would be here."""
    async with http.get(f"{app.url}/metrics") as answer:
        text = await answer.text()
    assert "evil" not in text
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
