"""Rows 22 to 25 of the fault table: a model that raises, hangs, dies; no worker left. In processes of their own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from streamer.client import ConnectionClosed, Error, Finished, HandshakeRefused, Segment
from tests.cli.serving import refused
from tests.faults.arena import SECOND
from tests.faults.beside import answered, rest, stream, total, unharmed
from tests.faults.served import Served, served, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = str(Path(__file__).with_name("villain.py")) + ":Villain"
FAILURES = "streamer_inference_failures_total"
RESTARTS = "streamer_worker_restarts_total"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def barred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, no worker can be loaded."""
    return tmp_path_factory.mktemp("model") / "barred"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(barred: Path) -> AsyncIterator[Served]:
    settings = {
        "model.barred": barred,
        "model.memory_limit_mb": 150,
        "engine.restart_backoff_s": 0.1,
        "engine.max_restart_backoff_s": 0.2,
        "session.stall_timeout_s": 0,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    async with served(MODEL, "--grpc-port", "-1", *words) as server:
        yield server


def failure(heard: list[object]) -> Error:
    """The only error: it names the second that has no answer, and the stream went on to its end."""
    (error,) = [event for event in heard if isinstance(event, Error)]
    assert (error.fatal, error.channel, error.start_time, error.end_time) == (False, 0, 0.0, 1.0)
    assert isinstance(heard[-1], Finished)
    assert (heard[-1].received, heard[-1].processed, heard[-1].failed) == (16_000, 0, 1)
    return error


# Row 22: the model raises -------------------------------------------------------------------------


async def test_a_model_that_raises_costs_its_segment_and_says_nothing_of_its_insides(server: Served) -> None:
    async with unharmed(server) as before:
        error = failure(await answered(server, act="raise", secret="xyzzy"))
        assert (error.code, error.message, error.retryable) == ("model_error", "Internal server error", True)
        after = await server.metrics()
        assert total(after, FAILURES, code="model_error") == total(before, FAILURES, code="model_error") + 1
        assert total(after, RESTARTS) == total(before, RESTARTS)
        record = await server.logged("failed: Internal server error")
        assert record["level"] == "warning"
        assert "the model's own secret" in record["message"]  # the operator's log says why, the client is not told
        assert record["session_id"]


async def test_a_model_that_raises_time_and_again_ends_the_stream(server: Served) -> None:
    async with unharmed(server):
        with pytest.raises(ConnectionClosed) as closed:
            await answered(server, seconds=6, act="raise")
        assert (closed.value.close_code, closed.value.reason) == (1011, "model_error")
        assert total(await server.metrics(), "streamer_sessions_closed_total", reason="model_error") == 1


# Row 23: the model hangs --------------------------------------------------------------------------


async def test_a_model_that_hangs_is_killed_at_its_time_and_replaced(server: Served) -> None:
    workers = {worker.pid for worker in server.workers()}
    async with unharmed(server) as before:
        error = failure(await answered(server, act="hang"))
        assert (error.code, error.retryable) == ("model_timeout", True)
        await until(lambda: len(server.workers()) == 2 and {one.pid for one in server.workers()} != workers)
        after = await server.metrics()
        assert total(after, RESTARTS, cause="hung") == total(before, RESTARTS, cause="hung") + 1
        assert total(after, FAILURES, code="model_timeout") == 1
        assert (await server.logged("gave no answer within 1.5 s"))["level"] == "error"


# Row 24: a worker dies ----------------------------------------------------------------------------


async def test_a_worker_killed_in_a_call_costs_nobody_anything(server: Served, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    async with unharmed(server) as before, stream(server, options={"wait_for": str(flag)}) as one:
        await one.send(SECOND)
        await one.stop()
        while not total(await server.metrics(), "streamer_workers", state="busy"):
            await asyncio.sleep(0.01)
        for worker in server.workers():
            worker.send_signal(signal.SIGKILL)
        flag.touch()
        heard = await rest(one)
        assert [event.output["count"] for event in heard if isinstance(event, Segment)] == [16_000]
        assert not [event for event in heard if isinstance(event, Error)]
        after = await server.metrics()
        assert total(after, RESTARTS, cause="crashed") == total(before, RESTARTS, cause="crashed") + 2
        assert (await server.logged("killed by SIGKILL"))["level"] == "error"


async def test_a_segment_that_kills_every_worker_is_given_up_after_its_second(server: Served) -> None:
    async with unharmed(server) as before:
        error = failure(await answered(server, act="die"))
        assert (error.code, error.retryable) == ("model_crashed", True)
        after = await server.metrics()
        assert total(after, RESTARTS, cause="crashed") == total(before, RESTARTS, cause="crashed") + 2
        assert total(after, FAILURES, code="model_crashed") == 1
        await server.logged("exited with code 7")


async def test_a_worker_that_grows_past_its_memory_is_replaced_after_its_answer(server: Served) -> None:
    async with unharmed(server) as before:
        heard = await answered(server, act="grow")
        assert [event.output["count"] for event in heard if isinstance(event, Segment)] == [16_000]
        after = await server.metrics()
        assert total(after, RESTARTS, cause="memory") == total(before, RESTARTS, cause="memory") + 1
        await server.logged("past its limit of 150")


# Row 25: no worker left, and none can be loaded -----------------------------------------------------


async def health(server: Served) -> int:
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        return int(answer.status)


async def test_without_workers_the_server_says_so_refuses_and_comes_back(server: Served, barred: Path) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    async with unharmed(server), stream(server) as patient:
        assert await health(server) == serving
        barred.touch()
        for worker in server.workers():
            worker.send_signal(signal.SIGKILL)
        await until(lambda: len(server.said("loading the model failed")) > 3)
        probe = await server.probe()
        assert (probe.status, "no room for the weights" in probe.reason) == (503, True)
        assert (await server.probe("/livez")).status == 200  # it mends itself: no reason to start it anew
        assert await health(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(HandshakeRefused) as no:
            await answered(server)
        assert (no.value.status, no.value.code) == (503, "overloaded")
        assert no.value.retry_after_s
        now = await server.metrics()
        assert (now["streamer_ready"], total(now, "streamer_workers", state="down")) == (0, 2)
        assert total(now, RESTARTS, cause="load_failed") >= 2
        assert total(now, "streamer_admission_rejected_total", reason="overloaded") == 1

        await patient.send(SECOND)
        await patient.stop()
        barred.unlink()
        heard = await rest(patient)  # it had a place, and is answered as soon as there is a worker
        assert [event.output["count"] for event in heard if isinstance(event, Segment)] == [16_000]
        await server.until_ready()
        assert await health(server) == serving


async def test_a_model_that_never_loads_is_one_line_and_exit_2(barred: Path) -> None:
    barred.touch()
    code, said = await asyncio.to_thread(refused, MODEL, "--set", f"model.barred={barred}", "--grpc-port", "0")
    barred.unlink()
    assert (code, said.splitlines()[-1]) == (
        2,
        "error: model 'Villain': loading the model failed: RuntimeError: no room for the weights",
    )
