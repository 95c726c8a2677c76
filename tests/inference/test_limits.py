"""The engine's bounds, each at its value and one past it."""

import threading

import pytest

from streamer.errors import ErrorCode, ModelLoadError, Overloaded
from streamer.inference.engine import Engine
from streamer.inference.settings import EngineSettings
from streamer.models.contract import Model
from streamer.session.actions import Output
from tests.inference.harness import ModelFactory, Outcomes, job, running, until


class Gated(Model):
    """Waits at a gate in each call that is not the engine's own, and in `load` at another."""

    timeout_floor_s = 30.0

    def __init__(self):
        self.gate, self.loaded = threading.Event(), threading.Event()
        self.loaded.set()
        self.busy = threading.Event()

    def load(self):
        assert self.loaded.wait(20)

    def infer(self, batch):
        if batch[0].session_id:
            self.busy.set()
            assert self.gate.wait(20)
        return [None] * len(batch)


class FixedOutputModel(Model):
    """Answers with what it was made with, in parts where that is a generator."""

    def __init__(self, answer):
        self.answer = answer

    def infer(self, batch):
        return [self.answer() if item.session_id else None for item in batch]


@pytest.mark.parametrize(
    ("settings", "last"),
    [
        (EngineSettings(max_pending_items=2), {"n": 160}),
        (EngineSettings(max_pending_seconds=2.0), {"n": 16_000}),
    ],
    ids=["items", "seconds"],
)
async def test_what_waits_refuses_sessions_from_its_bound_on_and_is_answered_all_the_same(settings, last):
    model, got = Gated(), Outcomes()
    async with running(lambda: model, settings) as engine:
        got.submit(engine, job(0))
        await until(model.busy.is_set)
        got.submit(engine, job(1, **last))
        engine.check_admission()  # one more would still be within the bound
        got.submit(engine, job(2, **last))
        with pytest.raises(Overloaded):
            engine.check_admission()
        model.gate.set()
        assert all(isinstance(outcome, Output) for outcome in await got.wait_all([("s", n) for n in range(3)]))
        engine.check_admission()


@pytest.mark.parametrize(("length", "fits"), [(98, True), (99, False)])
async def test_an_output_may_be_as_long_as_is_set_and_not_a_byte_more(length, fits):
    got = Outcomes()
    async with running(lambda: FixedOutputModel(lambda: "x" * length), EngineSettings(max_output_bytes=100)) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    assert outcome == Output.of("x" * length) if fits else outcome.code is ErrorCode.MODEL_ERROR


@pytest.mark.parametrize(("parts", "fits"), [(4, True), (5, False)])
async def test_a_generator_may_give_as_many_partial_answers_as_are_set_and_its_final(parts, fits):
    got = Outcomes()
    async with running(lambda: FixedOutputModel(lambda: iter(range(parts))), EngineSettings(max_partials=3)) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    assert isinstance(outcome, Output) is fits


async def test_a_model_that_loads_in_time_is_ready_and_one_that_does_not_is_given_up():
    settings = EngineSettings(load_timeout_s=0.3)
    async with running(Gated, settings) as engine:
        assert engine.readiness.ready
    late = Gated()
    late.loaded.clear()
    engine = Engine(ModelFactory(lambda: late), settings)
    with pytest.raises(ModelLoadError, match=r"took more than 0\.3 s"):
        await engine.start()
    late.loaded.set()
    await engine.stop(5.0)
