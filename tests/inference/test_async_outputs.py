"""Async outputs of one batch run together: each is answered when it is known, and fails alone."""

import asyncio
import contextlib

import pytest

from streamer.errors import ErrorCode, ModelLoadError
from streamer.inference.model_runner import ModelRunner
from streamer.inference.observer import CallOutcome
from streamer.inference.settings import EngineSettings
from streamer.inference.worker_protocol import InferenceItem, Op, WorkerCall
from streamer.models.contract import ASYNC_CALLS, FunctionModel, Model, StreamingModel, model
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, Output
from tests.inference.harness import PATIENCE_S, ModelFactory, Outcomes, Recorder, job, running
from tests.inference.models import Scripted

FAILED = JobFailed(ErrorCode.MODEL_ERROR, "the model failed on this segment")


@pytest.fixture(params=[0, 32], ids=["one call at a time", "overlapping calls"], autouse=True)
def max_concurrent(request, monkeypatch):
    """Every rule holds either way."""
    monkeypatch.setattr(Scripted, "max_concurrent", request.param)


class ActingModel(Scripted):
    """Does with each item what its first sample says, and nothing with the engine's own silence."""

    def infer(self, batch):
        return super().infer(batch) if batch[0].session_id else [None]


async def batch_of(acts, record=None, settings=None, **numbers):
    """The outcomes of one batch: of each act all that it was answered with."""
    got = Outcomes()
    numbers = {"max_batch_size": len(acts), "max_batch_wait_ms": 1000.0, **numbers}
    async with running(lambda: ActingModel(acts, **numbers), settings, observer=record) as engine:
        for n in range(len(acts)):
            got.submit(engine, job(0, f"s{n}", value=float(n)))
        await got.wait_all([(f"s{n}", 0) for n in range(len(acts))])
    return [got.of[f"s{n}", 0] for n in range(len(acts))]


def once(make):
    """Make something on the worker's event loop, when it is first asked for."""
    made = []

    def get():
        if not made:
            made.append(make())
        return made[0]

    return get


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_calls_of_one_batch_may_wait_for_each_other(executor):
    got, record = Outcomes(), Recorder()
    spec = ModelSpec("tests.inference.models:Meeting", {"executor": executor})
    async with running(spec, observer=record) as engine:
        for n in range(4):
            got.submit(engine, job(0, f"s{n}", value=n / 8))
        outcomes = await got.wait_all([(f"s{n}", 0) for n in range(4)])
    assert outcomes == [Output.of({"value": n / 8}) for n in range(4)]
    assert [len(batch) for _, batch in record.batches] == [4]


async def test_an_async_function_is_called_for_a_whole_batch_at_once():
    barrier = once(lambda: asyncio.Barrier(3))

    @model(max_batch_size=3)
    async def meet(samples):
        if len(samples) == 160:
            async with asyncio.timeout(PATIENCE_S):
                await barrier().wait()
        return float(samples[0])

    got = Outcomes()
    async with running(lambda: meet) as engine:
        for n in range(3):
            got.submit(engine, job(0, f"s{n}", value=float(n)))
        assert await got.wait_all([(f"s{n}", 0) for n in range(3)]) == [Output.of(0.0), Output.of(1.0), Output.of(2.0)]


async def test_an_output_is_answered_when_it_is_known_whatever_the_others_do():
    got = Outcomes()

    def after(number):
        async def answer(item):
            while number < 3 and not got.of[f"s{number + 1}", 0]:  # until the next one's answer is there
                await asyncio.sleep(0.001)
            return number

        return answer

    acts = [after(number) for number in range(4)]
    async with running(lambda: ActingModel(acts, max_batch_size=4)) as engine:
        for n in range(4):
            got.submit(engine, job(0, f"s{n}", value=float(n)))
        assert await got.wait_all([(f"s{n}", 0) for n in range(4)]) == [Output.of(n) for n in range(4)]


async def test_an_async_output_that_fails_fails_alone():
    async def good(item):
        await asyncio.sleep(0)
        return "good"

    async def raises(item):
        raise ValueError

    async def cancels_itself(item):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async def is_not_json(item):
        return object()

    record = Recorder()
    outcomes = await batch_of([good, raises, cancels_itself, is_not_json, good], record)
    assert outcomes[0] == outcomes[4] == [Output.of("good")]
    assert outcomes[1] == outcomes[2] == [FAILED]
    assert "not JSON" in outcomes[3][0].message
    assert [ended for _, _, ended in record.finished] == [CallOutcome.ANSWERED]


async def test_async_generators_run_together_each_in_one_task():
    barrier = once(lambda: asyncio.Barrier(2))

    def saying(*words):
        async def say(item):
            async with asyncio.timeout(PATIENCE_S):  # entered and left in one task, or it raises
                for word in words:
                    await barrier().wait()
                    yield word

        return say

    outcomes = await batch_of([saying("a", "a b", "a b c"), saying("x", "x y", "x y z")])
    assert outcomes == [
        [Output.of("a", True), Output.of("a b", True), Output.of("a b c")],
        [Output.of("x", True), Output.of("x y", True), Output.of("x y z")],
    ]


async def test_outputs_of_every_kind_may_be_mixed_in_one_batch():
    asked = once(asyncio.Event)

    async def waits(item):
        await asked().wait()
        return "waited"

    async def grows(item):
        yield "x"
        asked().set()
        yield "x y"

    def pulled(item):
        yield "a"
        yield "a b"

    class Slow:
        """An async iterator that is no generator, and cannot be closed."""

        def __init__(self, item):
            self.left = 2

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.left -= 1
            if self.left < 0:
                raise StopAsyncIteration
            await asyncio.sleep(0)
            return self.left

    outcomes = await batch_of([waits, grows, pulled, lambda item: "plain", lambda item: ValueError(), Slow])
    assert outcomes == [
        [Output.of("waited")],
        [Output.of("x", True), Output.of("x y")],
        [Output.of("a", True), Output.of("a b")],
        [Output.of("plain")],
        [FAILED],
        [Output.of(1, True), Output.of(0)],
    ]


async def test_an_async_generator_without_end_is_bounded_and_closed():
    closed = []

    async def endless(item):
        try:
            while True:
                yield 0
        finally:
            closed.append(True)

    async def good(item):
        return "good"

    outcomes = await batch_of([endless, good], settings=EngineSettings(max_partials=5))
    assert outcomes[0][-1].message == "the model yielded more than 5 outputs for one segment"
    assert len(outcomes[0]) == 6
    assert outcomes[1] == [Output.of("good")]
    assert closed == [True]


async def test_a_call_that_is_given_up_ends_the_others_of_its_batch():
    ended = []

    async def leaves(item):
        await asyncio.sleep(0)
        raise SystemExit

    async def waits(item):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    class Once(ActingModel):
        def infer(self, batch):
            return super().infer(batch) if len(batch) > 1 else [1]

    got, record = Outcomes(), Recorder()
    async with running(lambda: Once([leaves, waits], max_batch_size=2), observer=record) as engine:
        for n in range(2):
            got.submit(engine, job(0, f"s{n}", value=float(n)))
        assert await got.wait_all([("s0", 0), ("s1", 0)]) == [Output.of(1)] * 2, "each is tried by itself"
        assert ended == [True]
    assert [end for _, _, end in record.finished] == [CallOutcome.RAISED, CallOutcome.ANSWERED, CallOutcome.ANSWERED]


def test_a_call_that_hangs_keeps_no_answer_of_its_batch_back():
    ended = []

    async def hangs(item):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def answers(item):
        await asyncio.sleep(0)
        return item.session_id

    host = ModelRunner(ModelFactory(lambda: ActingModel([hangs, answers])), max_output_bytes=100, max_partials=1)
    *_, loaded = host.run(WorkerCall(Op.LOAD))
    assert loaded.fault is None
    items = [InferenceItem.of(job(0, f"s{n}", value=float(n > 0))) for n in range(4)]
    replies = host.run(WorkerCall(Op.INFER, items))
    known = [answer for _ in range(3) for answer in next(replies).answers]
    assert sorted((answer.index, answer.value) for answer in known) == [(n, f'"s{n}"'.encode()) for n in (1, 2, 3)]
    assert not ended
    replies.close()  # the worker is given up
    assert ended
    host.close()


async def test_a_job_that_is_cancelled_while_it_runs_gets_no_outcome_and_its_batch_goes_on():
    gate, entered = once(asyncio.Event), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def waits(item):
        loop.call_soon_threadsafe(entered.set)
        await gate().wait()
        return "waited"

    async def opens(item):
        while not cancelled:
            await asyncio.sleep(0.001)
        gate().set()
        return "opened"

    cancelled, got = [], Outcomes()
    async with running(lambda: ActingModel([waits, opens, lambda item: 1], max_batch_size=2)) as engine:
        got.submit(engine, job(0, "cancelled", value=0.0))
        got.submit(engine, job(0, "kept", value=1.0))
        await entered.wait()
        engine.cancel("cancelled", 0)
        cancelled.append(True)
        assert await got.wait(0, "kept") == Output.of("opened")
        got.submit(engine, job(1, "kept", value=2.0))
        assert await got.wait(1, "kept") == Output.of(1)
    assert not got.of["cancelled", 0]


async def test_a_streaming_model_may_answer_later():
    barrier = once(lambda: asyncio.Barrier(2))

    class Counts(StreamingModel):
        max_batch_size = 2

        def open(self, info):
            return 0

        def step(self, states, batch):
            return [(state + 1, self._answer(item, state + 1)) for state, item in zip(states, batch, strict=True)]

        async def _answer(self, item, count):
            if item.session_id:
                await barrier().wait()
            return count

    got = Outcomes()
    async with running(Counts) as engine:
        for n in range(2):
            for session in "ab":
                got.submit(engine, job(n, session))
        assert await got.wait_all([(s, n) for n in range(2) for s in "ab"]) == [Output.of(n) for n in (1, 1, 2, 2)]


async def test_what_an_output_left_running_ends_with_the_worker():
    ended = []

    async def leaves_something(item):
        async def behind():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        leaves_something.task = asyncio.create_task(behind())
        await asyncio.sleep(0)
        return 1

    assert await batch_of([leaves_something]) == [[Output.of(1)]]
    assert ended
    with contextlib.suppress(asyncio.CancelledError):
        leaves_something.task.exception()


async def test_an_async_function_answers_several_streams_at_once_without_any_setting():
    barrier = None

    async def meet(samples):
        nonlocal barrier
        barrier = barrier or asyncio.Barrier(3)
        if samples[0]:
            await barrier.wait()  # only together do they get on
        return float(samples[0])

    got = Outcomes()
    async with running(lambda: FunctionModel(meet, max_batch_wait_ms=1000.0)) as engine:
        assert engine.model.max_concurrent == ASYNC_CALLS
        for n in range(3):
            got.submit(engine, job(n, f"s{n}", value=1.0))
        assert await got.wait_all([(f"s{n}", n) for n in range(3)]) == [Output.of(1.0)] * 3


async def test_infer_may_be_async():
    class Remote(Model):
        max_batch_size = 4

        async def infer(self, batch):
            await asyncio.sleep(0)
            return [float(item.samples[0]) for item in batch]

    got = Outcomes()
    async with running(Remote) as engine:
        got.submit(engine, job(value=2.0))
        assert await got.wait() == Output.of(2.0)


async def test_an_async_infer_that_returns_no_list_is_refused_before_ready():
    class Remote(Model):
        async def infer(self, batch):
            return {"text": "x"}

    with pytest.raises(ModelLoadError, match="must return one output per item"):
        async with running(Remote):
            pass
