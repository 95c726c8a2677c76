"""Row 26 of the fault table: SIGTERM with live streams. `python -m benchmarks.drain` does the same with a thousand."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.drain import Talk, drain, living
from tests.faults.beside import stream
from tests.faults.served import served

STREAMS = 50
MODEL = str(Path(__file__).with_name("villain.py")) + ":Villain"


def times(**seconds: float) -> list[str]:
    return [word for name, value in seconds.items() for word in ("--set", f"drain.{name}_s={value}")]


@pytest.mark.parametrize("mode", ["simple", "segmented"])
async def test_sigterm_with_live_streams_loses_nothing(mode: str) -> None:
    async with served("stub", "--set", "model.delay=0.01", *times(lag=0.2, soft=0.5, spread=0.3, hard=20)) as server:
        outcome = await drain(server, STREAMS, Talk(mode), after_s=1.0)
        assert outcome.codes == {1012: STREAMS}
        assert (outcome.exit_code, outcome.forced, outcome.unaccounted) == (0, 0, 0)
        assert outcome.received >= STREAMS * 16_000
        assert outcome.finals >= STREAMS or mode == "segmented"
        assert outcome.first_closed_s >= 0.5
        assert server.said(f"draining {STREAMS} sessions")
        assert len([record for record in server.said("session closed") if record["reason"] == "draining"]) == STREAMS
        assert not [record for record in server.records() if record["level"] == "error"]


async def test_from_the_signal_on_everybody_is_told_and_new_sessions_are_taken_for_a_while_only() -> None:
    async with (
        served("stub", "--grpc-port", "-1", *times(lag=1.5, soft=30, hard=60)) as server,
        living(server.url, 1, Talk()) as [live],
        grpc.aio.insecure_channel(server.grpc_target) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        server.process.terminate()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        probe = await server.probe()
        assert (probe.status, probe.reason) == (503, "draining")
        assert (await server.metrics())["streamer_draining"] == 1
        async with stream(server) as late:  # a load balancer has not noticed yet
            await late.stop()
            kinds = [type(event).__name__ async for event in late]
        assert kinds == ["Draining", "Started", "Finished"]
        await asyncio.sleep(1.5)
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/api/v2/simple") as refused:
            assert (refused.status, (await refused.json())["code"]) == (503, "draining")
        assert live.told is not None
        server.process.terminate()  # a second signal means now
        assert await server.ended(10) == 0


async def test_a_drain_with_the_model_dead_ends_at_the_hard_limit(tmp_path: Path) -> None:
    """What waits for an answer that never comes is cut off and counted, and the process still ends in order."""
    flag = tmp_path / "never"
    settings = ("--set", "model.timeout_floor_s=600", *times(lag=0, soft=0.2, spread=0, hard=1))
    async with served(MODEL, *settings) as server:
        async with stream(server, options={"wait_for": str(flag)}, chunk_ms=100) as stuck:
            await stuck.send(bytes(32_000))
            await asyncio.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            closed = await stuck.wait_closed()
        assert closed.code == 1006
        assert await server.ended(20) == 0
        assert (await server.logged("did not end within 1 s"))["level"] == "warning"
        assert not server.said("Traceback")
