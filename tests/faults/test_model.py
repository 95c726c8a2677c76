"""Rows 22 to 25 of the fault table: a model that raises, hangs, dies; no worker left. In processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamer.errors import ErrorCode
from tests.cli.serving import refused
from tests.faults.beside import RemoteArena, answered, counts, failure, remote, total
from tests.faults.fault import SOME, Fault, Record, fault, harmless, lost, refusal, session
from tests.faults.peers import TRANSPORTS
from tests.faults.served import ServerProcess, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("way", TRANSPORTS)

MODEL = str(Path(__file__).with_name("villain.py")) + ":Villain"
WORKERS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def barred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, no worker can be loaded."""
    return tmp_path_factory.mktemp("model") / "barred"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(barred: Path) -> AsyncIterator[RemoteArena]:
    async with remote(
        MODEL,
        model__barred=barred,
        model__memory_limit_mb=150,
        engine__restart_backoff_s=0.1,
        engine__max_restart_backoff_s=0.2,
        session__stall_timeout_s=0,
    ) as arena:
        yield arena


def restarted(cause: str, times: int = 1, *, words: str) -> Fault:
    """Workers are lost and replaced, and the log says why."""
    return Fault(counted={f"worker_restarts.{cause}": times}, logged=(Record(words, SOME, "error"),))


# Row 22: the model raises -------------------------------------------------------------------------

SECRET = "the model's own secret"
RAISED = Record("failed: Internal server error", level="warning")


@fault(22, lost(ErrorCode.MODEL_ERROR, logged=RAISED))
@both
async def test_a_model_that_raises_costs_its_segment_and_says_nothing_of_its_insides(
    arena: RemoteArena, way: str
) -> None:
    error = failure(await answered(arena, way, act="raise", secret="xyzzy"))
    assert (error["message"], error["retryable"]) == ("Internal server error", True)
    record = await arena.server.logged("failed: Internal server error")
    assert SECRET in record["message"]  # the operator's log says why, the client is not told
    assert record["session_id"]


@fault(
    22,
    session(ErrorCode.MODEL_ERROR, end=ErrorCode.MODEL_ERROR, errors=[ErrorCode.MODEL_ERROR], failed=5)
    + Fault(told=(ErrorCode.MODEL_ERROR,) * 5, counted={"inference_failures.model_error": SOME}),
)
@both
async def test_a_model_that_raises_time_and_again_ends_the_stream(arena: RemoteArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start(options={"act": "raise"}, chunk_ms=1_000)
        for _ in range(5):
            await peer.audio()
            assert not (await peer.hear("error"))["fatal"]
        await peer.ended_with(ErrorCode.MODEL_ERROR, "times in a row")


# Row 23: the model hangs --------------------------------------------------------------------------


@fault(
    23, lost(ErrorCode.MODEL_TIMEOUT, restarts={"hung": 1}, logged=Record("did not answer within 4 s", level="error"))
)
@both
async def test_a_model_that_hangs_is_killed_at_its_time_and_replaced(arena: RemoteArena, way: str) -> None:
    workers = {worker.pid for worker in arena.server.workers()}
    error = failure(await answered(arena, way, act="hang"))
    assert error["retryable"]
    await until(lambda: len(replaced := {one.pid for one in arena.server.workers()}) == WORKERS and replaced != workers)


# Row 24: a worker dies ----------------------------------------------------------------------------


@fault(24, harmless(failed=0) + restarted("crashed", WORKERS, words="killed by SIGKILL"))
@both
async def test_a_worker_killed_in_a_call_costs_nobody_anything(arena: RemoteArena, way: str, tmp_path: Path) -> None:
    """The one at rest first, then the one that has the call: a call whose two workers both die is given up."""
    flag, who = tmp_path / "flag", tmp_path / "who"
    async with arena.peer(way) as peer:
        await peer.start(options={"wait_for": str(flag), "say_who": str(who)}, chunk_ms=1_000)
        await peer.audio()
        await peer.stop()
        await until(lambda: who.exists() and who.read_text())
        busy = int(who.read_text())
        [resting] = [worker.pid for worker in arena.server.workers() if worker.pid != busy]
        for times, worker in enumerate((resting, busy), 1):
            os.kill(worker, signal.SIGKILL)
            await arena.sight.until_counted("worker_restarts.crashed", times)
        flag.touch()
        assert counts(await peer.rest()) == [16_000]


@fault(
    24,
    lost(
        ErrorCode.MODEL_CRASHED, restarts={"crashed": 2}, logged=Record("exited with code 7", times=SOME, level="error")
    ),
)
@both
async def test_a_segment_that_kills_every_worker_is_given_up_after_its_second(arena: RemoteArena, way: str) -> None:
    assert failure(await answered(arena, way, act="die"))["retryable"]


@fault(24, harmless(failed=0) + restarted("memory", words="its limit is 150 MiB"))
@both
async def test_a_worker_that_grows_past_its_memory_is_replaced_after_its_answer(arena: RemoteArena, way: str) -> None:
    assert counts(await answered(arena, way, act="grow")) == [16_000]


# Row 25: no worker left, and none can be loaded -----------------------------------------------------


async def health(server: ServerProcess) -> int:
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return int(answer.status)


SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NONE_LEFT = Fault(
    counted={"worker_restarts.crashed": WORKERS, "worker_restarts.load_failed": SOME},
    logged=(Record("loading the model failed", SOME, "error"), Record("killed by SIGKILL", SOME, "error")),
)


@fault(25, harmless(failed=0) + refusal(ErrorCode.OVERLOADED, 2) + NONE_LEFT)
@both
async def test_without_workers_the_server_says_so_refuses_and_comes_back(
    arena: RemoteArena, way: str, barred: Path
) -> None:
    server = arena.server
    async with arena.peer(way) as patient:
        await patient.start(chunk_ms=1_000)
        await patient.hear("started")
        assert await health(server) == SERVING
        barred.touch()
        for worker in server.workers():
            worker.send_signal(signal.SIGKILL)
        await arena.sight.until_counted("worker_restarts.load_failed", WORKERS)
        probe = await server.probe()
        assert (probe.status, "no room for the weights" in probe.reason) == (503, True)
        assert (await server.probe("/livez")).status == 200  # it mends itself: no reason to start it anew
        assert await health(server) == NOT_SERVING
        for other in TRANSPORTS:
            await arena.refuses(other, ErrorCode.OVERLOADED, 503)
        now = await server.metrics()
        assert (now["streamer_ready"], total(now, "streamer_workers", state="down")) == (0, WORKERS)
        await patient.audio()
        await patient.stop()
        barred.unlink()
        assert counts(await patient.rest()) == [16_000]  # it had a place: answered as soon as there is a worker
        await server.until_ready()
        assert await health(server) == SERVING


async def test_a_model_that_never_loads_is_one_line_and_exit_2(barred: Path) -> None:
    barred.touch()
    code, said = await asyncio.to_thread(refused, MODEL, "--set", f"model.barred={barred}", "--grpc-port", "0")
    barred.unlink()
    last = said.splitlines()[-1]
    assert code == 2
    assert last.startswith("error: model 'Villain': loading the model failed: RuntimeError: no room for the weights (")
    assert "villain.py, line" in last
