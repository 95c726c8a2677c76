"""The calls of an async model overlap, up to a bound, and what happens to one of them leaves the others alone."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from streamer.errors import ErrorCode, ModelLoadError
from streamer.inference.engine import Engine
from streamer.inference.model_config import ModelConfig
from streamer.inference.observer import CallOutcome, LossCause
from streamer.inference.scheduler import BatchLimits, QueuedJob, Scheduler
from streamer.inference.worker_slot import CANCEL_TIMEOUT_S
from streamer.models.contract import ASYNC_CALLS, FunctionModel, Model, StreamingModel
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, JobKind, Output
from streamer.testing import ManualClock
from tests.inference.harness import ModelFactory, Outcomes, Recorder, job, running
from tests.inference.models import Waiting

FOLLOWING = "tests.inference.models:Following"
TIMED_OUT = JobFailed(ErrorCode.MODEL_TIMEOUT, "the model took too long for this segment")
EXECUTORS = pytest.mark.parametrize("executor", ["thread", "process"])


def submit(engine, got, *numbers):
    """One job for each number, of a session of its own."""
    for number in numbers:
        got.submit(engine, job(0, f"s{number}", value=float(number)))


def keys(*numbers):
    return [(f"s{number}", 0) for number in numbers]


@asynccontextmanager
async def waiting(clock=None, **settings):
    """An engine on a model that waits, what it answers, and what it observes."""
    model, got, record = Waiting(**settings), Outcomes(), Recorder()
    engine = Engine(ModelFactory(lambda: model), clock=clock, observer=record)
    await engine.start()
    try:
        yield model, engine, got, record
    finally:
        model.unblock.set()
        await engine.stop(5)


@EXECUTORS
async def test_a_call_begins_while_another_one_runs(executor):
    got, record = Outcomes(), Recorder()
    async with running(ModelSpec(FOLLOWING, {"executor": executor, "last": 3}), observer=record) as engine:
        for number in range(4):
            submit(engine, got, number)
            await record.until(lambda count=number + 1: len(record.batches) == count)
        outcomes = await got.wait_all(keys(0, 1, 2, 3))
    assert outcomes == [Output.of(number) for number in range(4)]
    assert [len(batch) for _, batch in record.batches] == [1, 1, 1, 1]
    assert [outcome for _, _, outcome in record.finished] == [CallOutcome.ANSWERED] * 4


async def test_the_calls_of_an_async_function_begin_one_by_one():
    begun = []

    async def follows(samples):
        begun.append(samples[0])
        while samples[0] and len(begun) < 2 + 1:  # the engine's own call on silence, and both of the test
            await asyncio.sleep(0.001)
        return float(samples[0])

    got, record = Outcomes(), Recorder()
    async with running(lambda: FunctionModel(follows), observer=record) as engine:
        submit(engine, got, 1)
        await record.until(lambda: len(record.batches) == 1)
        submit(engine, got, 2)
        assert await got.wait_all(keys(1, 2)) == [Output.of(1.0), Output.of(2.0)]


async def test_items_beyond_the_bound_wait_for_a_place():
    async with waiting(max_concurrent=3) as (model, engine, got, record):
        submit(engine, got, *range(5))
        await model.have_begun(3)
        assert (engine.depth.running_items, engine.depth.pending_items) == (3, 2)
        model.let_go(1)
        await model.have_begun(1)
        assert await got.wait(0, "s1") == Output.of(1)
        model.let_go(0, 2, 3)
        await model.have_begun(1)
        model.let_go(4)
        await got.wait_all(keys(*range(5)))
    assert model.most == 3
    assert sum(len(batch) for _, batch in record.batches) == 5


async def test_the_place_of_an_answered_item_is_free_before_its_batch_ends():
    async with waiting(max_batch_size=2, max_batch_wait_ms=1_000.0, max_concurrent=2) as (model, engine, got, record):
        submit(engine, got, 0, 1)
        await model.have_begun(2)
        submit(engine, got, 2)
        model.let_go(0)
        await model.have_begun(1)
        model.let_go(1, 2)
        assert await got.wait_all(keys(0, 1, 2)) == [Output.of(0), Output.of(1), Output.of(2)]
    assert [len(batch) for _, batch in record.batches] == [2, 1]
    assert model.most == 2


async def test_a_worker_with_more_places_is_filled_first():
    async with waiting(max_concurrent=3, workers=2) as (model, engine, got, record):
        submit(engine, got, *range(4))
        await model.have_begun(4)
        assert sorted(worker for worker, _ in record.batches) == [0, 0, 1, 1]
        model.let_go(*range(4))
        await got.wait_all(keys(*range(4)))


async def test_a_call_that_takes_too_long_is_cancelled_and_the_others_go_on():
    clock = ManualClock()
    async with waiting(clock) as (model, engine, got, record):
        submit(engine, got, 0)
        await model.have_begun(1)
        clock.advance(20.0)
        submit(engine, got, 1)
        await model.have_begun(1)
        clock.advance(10.0)
        assert await got.wait(0, "s0") == TIMED_OUT
        assert model.cancelled == [0]
        model.let_go(1)
        assert await got.wait(0, "s1") == Output.of(1)
        submit(engine, got, 2)
        await model.have_begun(1)
        model.let_go(2)
        assert await got.wait(0, "s2") == Output.of(2), "the worker is the same"
    assert record.lost == []
    assert record.started == [0]
    assert [outcome for _, _, outcome in record.finished] == [
        CallOutcome.HUNG,
        CallOutcome.ANSWERED,
        CallOutcome.ANSWERED,
    ]


async def test_a_worker_that_does_not_cancel_a_call_is_replaced_and_the_others_are_tried_again():
    clock = ManualClock()
    async with waiting(clock) as (model, engine, got, record):
        submit(engine, got, 1)
        await model.have_begun(1)
        submit(engine, got, -1)
        await model.have_begun(1)
        clock.advance(30.0)
        assert got.last(0, "s1") is None
        clock.advance(CANCEL_TIMEOUT_S)
        assert record.lost == [(0, LossCause.HUNG)]
        await model.have_begun(1)  # each by itself: the one that came first, then the one that blocks
        assert engine.depth.running_items == 1
        model.let_go(1)
        assert await got.wait(0, "s1") == Output.of(1)
        await model.have_begun(1)
        clock.advance(30.0 + CANCEL_TIMEOUT_S)
        assert await got.wait(0, "s-1") == TIMED_OUT
    assert record.lost == [(0, LossCause.HUNG)] * 2


async def test_a_crash_fails_the_call_that_crashes_again_and_the_others_are_tried_each_alone(tmp_path):
    got, record = Outcomes(), Recorder()
    spec = ModelSpec("tests.inference.models:Crashing", {"executor": "process", "directory": tmp_path})
    async with running(spec, observer=record) as engine:
        submit(engine, got, 1, 2, -1)
        assert await got.wait_all(keys(1, 2)) == [Output.of(1.0), Output.of(2.0)]
        assert (await got.wait(0, "s-1")).code == ErrorCode.MODEL_CRASHED
    assert record.lost == [(0, LossCause.CRASHED)] * 2
    assert [outcome for _, _, outcome in record.finished[:3]] == [CallOutcome.CRASHED] * 3
    assert sorted(outcome for _, _, outcome in record.finished[3:]) == ["answered", "answered", "crashed"]


async def test_a_job_that_is_tried_again_after_a_crash_has_a_worker_for_itself():
    limits = BatchLimits(size=4, concurrent=8)
    queue = Scheduler(limits)
    queue.add(QueuedJob(0, ("a", 0, 0), JobKind.FINAL, 0, 1.0, 0.0, True, True))
    queue.add(QueuedJob(1, ("b", 0, 0), JobKind.FINAL, 0, 1.0, 0.0))

    def planned(**room):
        rooms = {int(worker[1:]): places for worker, places in room.items()}
        plan = queue.plan(list(rooms), 10.0, expecting=False, assignments={}, room=rooms)
        return [(batch.worker, batch.tokens) for batch in plan.batches]

    assert planned(w0=7) == [], "the worker takes nothing until it is empty"
    assert planned(w0=8) == [(0, (0,))]
    assert planned(w0=8, w1=7) == [(0, (0,)), (1, (1,))]


def test_a_batch_is_no_larger_than_the_room_of_its_worker():
    queue = Scheduler(BatchLimits(size=4, concurrent=8))
    for token in range(6):
        queue.add(QueuedJob(token, (f"s{token}", 0, 0), JobKind.FINAL, 0, 1.0, 0.0))
    plan = queue.plan([1, 0], 10.0, expecting=False, assignments={}, room={0: 2, 1: 8})
    assert [(batch.worker, batch.tokens) for batch in plan.batches] == [(1, (0, 1, 2, 3)), (0, (4, 5))]


@EXECUTORS
async def test_a_stop_waits_for_all_running_calls(executor):
    got, record = Outcomes(), Recorder()
    engine = Engine(ModelSpec(FOLLOWING, {"executor": executor, "last": 2}), observer=record)
    await engine.start()
    submit(engine, got, 0, 1)
    await record.until(lambda: len(record.batches) == 2)
    submit(engine, got, 2)
    await record.until(lambda: len(record.batches) == 3)
    await engine.stop(20)
    assert await got.wait_all(keys(0, 1, 2)) == [Output.of(0), Output.of(1), Output.of(2)]
    assert record.lost == []


async def test_a_worker_beyond_its_memory_is_replaced_when_all_of_its_calls_have_ended():
    got, record = Outcomes(), Recorder()
    settings = {"executor": "process", "last": 2, "memory_limit_mb": 1}
    async with running(ModelSpec(FOLLOWING, settings), observer=record) as engine:
        submit(engine, got, 1, 2)  # 1 runs at least until 2 has begun
        assert await got.wait_all(keys(1, 2)) == [Output.of(1), Output.of(2)]
        await record.until(lambda: len(record.started) == 2)
        assert record.lost == [(0, LossCause.MEMORY)]
        assert [outcome for _, _, outcome in record.finished] == [CallOutcome.ANSWERED] * 2


async def test_the_expected_wait_is_that_of_all_places_together():
    clock = ManualClock()
    async with waiting(clock, max_concurrent=10) as (model, engine, got, _):
        submit(engine, got, *range(10))
        await model.have_begun(10)
        clock.advance(20.0)
        model.let_go(*range(10))
        await got.wait_all(keys(*range(10)))
        submit(engine, got, *range(10, 30))
        await model.have_begun(10)
        # 20 s for each of ten at a time: two seconds an item, of which the mean has learned two thirds
        assert engine._expected_wait_s() == pytest.approx(10 * 2.0 * (1 - 0.9**10), rel=0.01)
        model.let_go(*range(10, 20))
        await model.have_begun(10)
        model.let_go(*range(20, 30))
        await got.wait_all(keys(*range(10, 30)))


async def test_an_error_of_a_whole_call_is_that_of_its_items():
    class Raising(Model):
        async def infer(self, batch):
            if batch[0].session_id:
                raise ValueError("a secret")
            return [None]

    got, record = Outcomes(), Recorder()
    async with running(Raising, observer=record) as engine:
        submit(engine, got, 1)
        assert await got.wait(0, "s1") == JobFailed(ErrorCode.MODEL_ERROR, "Internal server error")
    assert [outcome for _, _, outcome in record.finished] == [CallOutcome.RAISED]


async def test_a_task_of_the_model_that_exits_ends_the_worker_not_the_server():
    class Leaving(Model):
        async def infer(self, batch):
            if batch[0].session_id:
                self.task = asyncio.create_task(self._leave())
                await asyncio.Event().wait()
            return [None]

        async def _leave(self):
            raise SystemExit(3)

    got, record = Outcomes(), Recorder()
    async with running(Leaving, observer=record) as engine:
        submit(engine, got, 1)
        assert (await got.wait(0, "s1")).code == ErrorCode.MODEL_CRASHED
    assert record.lost == [(0, LossCause.CRASHED)] * 2


async def async_function(samples):
    return None


class AsyncInfer(Model):
    async def infer(self, batch):
        return [None for _ in batch]


class PlainInfer(Model):
    def infer(self, batch):
        return [None for _ in batch]


class Steps(StreamingModel):
    def open(self, info):
        return None

    def step(self, states, batch):
        return [(None, None) for _ in batch]


def with_settings(model, **settings):
    for name, value in settings.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    ("model", "size", "concurrent"),
    [
        (FunctionModel(async_function), 1, ASYNC_CALLS),
        (FunctionModel(async_function, max_batch_size=4), 1, 4),
        (FunctionModel(async_function, max_batch_size=4, max_concurrent=100), 1, 100),
        (FunctionModel(async_function, executor="ray"), ASYNC_CALLS, 0),
        (AsyncInfer(), 1, ASYNC_CALLS),
        (with_settings(AsyncInfer(), max_batch_size=64), 64, 64),
        (with_settings(AsyncInfer(), max_batch_size=8, max_concurrent=16), 8, 16),
        (PlainInfer(), 1, 0),
        (with_settings(PlainInfer(), max_concurrent=16), 1, 16),
        (Steps(), 1, 0),
    ],
    ids=[
        "function",
        "function with a batch",
        "function with both",
        "function on Ray",
        "infer",
        "infer with a batch",
        "infer with both",
        "plain",
        "plain with a bound",
        "stateful",
    ],
)
def test_the_bound_has_a_default_for_async_models(model, size, concurrent):
    config = ModelConfig.of(model)
    assert (config.max_batch_size, config.max_concurrent) == (size, concurrent)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (with_settings(Steps(), max_concurrent=2), "max_concurrent: expected 0 for a StreamingModel"),
        (
            with_settings(AsyncInfer(), max_concurrent=2, executor="ray"),
            "max_concurrent: expected 0 with executor 'ray'",
        ),
        (with_settings(AsyncInfer(), max_concurrent=-1), "max_concurrent: expected an integer from 0 to 4096, got -1"),
    ],
    ids=["stateful", "ray", "negative"],
)
def test_a_bound_that_cannot_be_kept_is_refused(model, message):
    with pytest.raises(ModelLoadError, match=message):
        ModelConfig.of(model)
