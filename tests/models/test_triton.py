"""Models on a real Triton: what a fake server can only assume. `make test-triton` fetches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed
from tests.inference.harness import Outcomes, job, running
from tests.models.triton import Triton, missing
from tests.transports.serving import SECOND, V2_START, V2_STOP, dialled, events

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with Triton(tmp_path_factory.mktemp("triton")) as server:
        yield server


def counter(triton: Triton, **parameters: object) -> ModelSpec:
    return ModelSpec("open_inference", {"url": triton.url, "model": "counter", **parameters})


def summer(triton: Triton) -> ModelSpec:
    return ModelSpec("open_inference_streaming", {"url": triton.url, "model": "summer"})


async def test_each_item_gets_its_own_answer(triton: Triton) -> None:
    got = Outcomes()
    jobs = [job(0, f"s{number}", n=100 + number // 4) for number in range(32)]
    async with running(counter(triton)) as engine:
        for each in jobs:
            got.submit(engine, each)
        answers = await got.wait_all([(each.session_id, 0) for each in jobs])
    assert [answer.decode() for answer in answers] == [len(each.samples) for each in jobs]


async def test_a_stream_goes_on_where_it_was_and_another_begins_at_nothing(triton: Triton) -> None:
    got = Outcomes()
    async with running(summer(triton)) as engine:
        for session in ("a", "b"):
            for number in range(3):
                got.submit(engine, job(number, session, n=100, start=100 * number))
        keys = [(session, number) for session in ("a", "b") for number in range(3)]
        assert [answer.decode() for answer in await got.wait_all(keys)] == [100, 200, 300] * 2


async def test_the_end_of_a_stream_frees_its_sequence(triton: Triton) -> None:
    """Triton has room for four sequences here, so ten streams only fit one after the other."""
    got = Outcomes()
    async with running(summer(triton)) as engine:
        for number in range(10):
            got.submit(engine, job(0, f"s{number}", n=100 + number))
            assert (await got.wait(0, f"s{number}")).decode() == 100 + number
            engine.release(f"s{number}")


async def test_a_server_that_forgets_soon_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Triton(tmp_path, idle_s=1.0) as server:
        async with running(summer(server)):
            pass
    assert "forgets a sequence that is idle for 1 s" in caplog.text


async def test_a_server_that_is_killed_costs_what_was_sent_to_it_and_a_new_one_goes_on(tmp_path: Path) -> None:
    got = Outcomes()
    with Triton(tmp_path) as server:
        async with running(summer(server)) as engine:
            got.submit(engine, job(0, n=100))
            assert (await got.wait(0)).decode() == 100
            server.kill()
            got.submit(engine, job(1, n=100, start=100))
            lost = await got.wait(1)
            assert isinstance(lost, JobFailed)
            assert lost.code is ErrorCode.MODEL_CRASHED
            assert "the model's state for this stream was lost" in lost.message
            server.start()
            number = 2
            while isinstance(answer := await ask(got, engine, number), JobFailed):
                assert answer.code is ErrorCode.OVERLOADED  # the channel is still connecting
                number += 1
            assert answer.decode() == 100  # from nothing


async def ask(got: Outcomes, engine, number: int):
    got.submit(engine, job(number, n=100, start=100 * number))
    return await got.wait(number)


async def test_a_client_is_answered_by_a_model_on_triton(triton: Triton) -> None:
    server, model = {"model": "open_inference"}, {"url": triton.url, "model": "counter"}
    async with App(Settings(server={"port": 0, **server}, model=model)) as app, dialled(app) as socket:
        await socket.send_json(V2_START)
        await socket.send_bytes(SECOND)
        await socket.send_json(V2_STOP)
        said = await events(socket)
    assert [event["output"] for event in said if event["type"] == "segment"] == [8_000, 8_000]
