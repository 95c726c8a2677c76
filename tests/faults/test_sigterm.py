"""Row 26 of the fault table: SIGTERM with live streams. `python -m benchmarks.drain` does the same with a thousand."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.drain import Talk, drain
from streamer.errors import ErrorCode
from streamer.telemetry.metrics import GONE
from tests.faults.beside import RemoteArena, remote, total
from tests.faults.fault import CLOSED, Fault, Record, fault, harmless, refusal
from tests.faults.peers import LEFT, SECOND, TRANSPORTS, Peer
from tests.faults.served import served

STREAMS = 50
EACH_WAY = 5
MODEL = str(Path(__file__).with_name("villain.py")) + ":Villain"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def times(**seconds: float) -> dict[str, float]:
    return {f"drain__{name}_s": value for name, value in seconds.items()}


def drained(streams: int) -> Fault:
    """All are told, get their finals, and are closed with the code."""
    records = (
        Record(f"draining {streams} sessions"),
        Record(CLOSED, streams, fields={"reason": "draining", "failed": 0}),
    )
    return Fault(ends=(ErrorCode.DRAINING,) * streams, logged=records, last={"sessions_closed.draining": streams})


@fault(26, drained(EACH_WAY * len(TRANSPORTS)))
async def test_sigterm_over_both_transports_loses_nothing(request: pytest.FixtureRequest) -> None:
    quick = times(lag=0.1, soft=0.3, spread=0.2, hard=20)
    async with (
        remote("stub", model__delay=0.01, **quick) as arena,
        arena.ending(request.node),
        AsyncExitStack() as stack,
    ):
        peers = [await stack.enter_async_context(arena.peer(way)) for way in TRANSPORTS for _ in range(EACH_WAY)]
        await asyncio.gather(*(streams(peer) for peer in peers))
        arena.server.process.terminate()
        await asyncio.gather(*(is_seen_out(peer) for peer in peers))
        assert await arena.server.ended() == 0


async def streams(peer: Peer) -> None:
    """Until all it sent has come; the end of it makes no piece yet."""
    await peer.start(chunk_ms=400)
    await peer.audio(SECOND)
    while (await peer.hear("ack"))["received"] < 16_000:
        pass


async def is_seen_out(peer: Peer) -> None:
    """It is told when, and what it has sent is answered to the last sample."""
    assert 0 < (await peer.hear("draining"))["deadline_ms"] <= 300
    finished = (await peer.rest())[-1]
    assert (finished["type"], finished["reason"], finished["failed"]) == ("finished", "drained", 0)
    assert (finished["received"], finished["processed"]) == (16_000, 16_000)


@pytest.mark.parametrize("mode", ["simple", "segmented"])
async def test_sigterm_with_live_streams_loses_nothing(mode: str) -> None:
    times = [
        f"drain.{name}={value}" for name, value in {"lag_s": 0.2, "soft_s": 0.5, "spread_s": 0.3, "hard_s": 20}.items()
    ]
    words = [word for setting in ("model.delay=0.01", *times) for word in ("--set", setting)]
    async with served("stub", *words) as server:
        outcome = await drain(server, STREAMS, Talk(mode), after_s=1.0)
        assert outcome.codes == {1012: STREAMS}
        assert (outcome.exit_code, outcome.forced, outcome.unaccounted) == (0, 0, 0)
        assert outcome.received >= STREAMS * 16_000
        assert outcome.finals >= STREAMS or mode == "segmented"
        assert outcome.first_closed_s >= 0.5
        assert server.said(f"draining {STREAMS} sessions")
        assert len([record for record in server.said("session closed") if record["reason"] == "draining"]) == STREAMS
        assert not [record for record in server.records() if record["level"] == "error"]


LATE = harmless(received_s=0.0) * len(TRANSPORTS)
CUT_OFF = Fault(
    ends=(LEFT,) * len(TRANSPORTS),
    logged=(Record(CLOSED, len(TRANSPORTS), fields={"reason": GONE, "streams": 1}),),
    last={f"sessions_closed.{GONE}": len(TRANSPORTS)},
)


@fault(26, LATE + refusal(ErrorCode.DRAINING, 2) + CUT_OFF + Fault(logged=(Record("draining 2 sessions"),)))
async def test_from_the_signal_on_everybody_is_told_and_new_sessions_are_taken_for_a_while_only(
    request: pytest.FixtureRequest,
) -> None:
    async with remote("stub", **times(lag=5, soft=30, hard=60)) as arena, arena.ending(request.node):
        server = arena.server
        async with (
            arena.peer("v2") as live,
            arena.peer("grpc") as call,
            grpc.aio.insecure_channel(server.grpc_target) as channel,
        ):
            for peer in (live, call):
                await peer.start()
                await peer.hear("started")
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            server.process.terminate()
            assert (await watch.read()).status == NOT_SERVING
            probe = await server.probe()
            assert (probe.status, probe.reason) == (503, "draining")
            assert (await server.metrics())["streamer_draining"] == 1
            for peer in (live, call):
                assert 0 < (await peer.hear("draining"))["deadline_ms"] <= 30_000
            for way in TRANSPORTS:  # a load balancer has not noticed yet
                async with arena.peer(way) as late:
                    await late.start()
                    await late.stop()
                    assert [event["type"] for event in await late.rest()] == ["draining", "started", "finished"]
            await refused_over_http(arena)
            await arena.refuses("grpc", ErrorCode.DRAINING, 503)
            await arena.samples()
            server.process.terminate()  # a second signal means now
            assert await server.ended(10) == 0
            for peer in (live, call):
                await peer.rest()


async def refused_over_http(arena: RemoteArena) -> None:
    """As soon as that is so: asked without an upgrade, which until then is another fault and no session."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(10):
        while True:
            async with http.get(f"{arena.server.url}/api/v2/simple") as answer:
                if answer.status == 503:
                    assert (await answer.json())["code"] == "draining"
                    return
            await asyncio.sleep(0.02)


@fault(
    26,
    CUT_OFF
    + Fault(logged=(Record("draining 2 sessions"), Record("2 sessions did not end within 1 s", level="warning"))),
)
async def test_a_drain_with_the_model_dead_ends_at_the_hard_limit(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """What waits for an answer that never comes is cut off and counted, and the process still ends in order."""
    flag = tmp_path / "never"
    quick = times(lag=0, soft=0.2, spread=0, hard=1)
    async with remote(MODEL, model__timeout_floor_s=600, **quick) as arena, arena.ending(request.node):
        async with arena.peer("v2") as stuck, arena.peer("grpc") as call:
            for peer in (stuck, call):
                await peer.start(options={"wait_for": str(flag)}, chunk_ms=1_000)
                await peer.audio()
            while total(await arena.server.metrics(), "streamer_workers", state="busy") < 2:
                await asyncio.sleep(0.01)
            arena.server.process.send_signal(signal.SIGTERM)
            for peer in (stuck, call):
                await peer.rest()
        assert await arena.server.ended(20) == 0
        assert not arena.server.said("Traceback")
