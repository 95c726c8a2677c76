"""One of several models: loaded once for all who come first, refused by name, let go when idle. On a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from streamer.config.models import ModelSection
from streamer.connection.hosted_model import HostedModel, ModelState, ModelUnavailable
from streamer.connection.model_pool import ModelPool, UnknownModel
from streamer.errors import ErrorCode, ModelLoadError, Overloaded, StreamerError
from streamer.inference.settings import EngineSettings
from streamer.testing import ManualClock, ScriptedEngine

KEEP_S = 60.0
PAUSE_S = 0.5
"""First pause after a failed load: `restart_backoff_s`."""


class Loadable(ScriptedEngine):
    """An engine whose load waits for the workshop's gate, and fails if the workshop says so."""

    def __init__(self, workshop: Workshop) -> None:
        super().__init__()
        self.workshop = workshop
        self.stopped = False

    async def start(self) -> None:
        self.workshop.begun.set()
        await self.workshop.gate.wait()
        if self.workshop.broken:
            raise ModelLoadError("no weights in /secret", detail="Traceback: no weights")

    async def stop(self, timeout_s: float) -> None:
        await self.workshop.stop_gate.wait()
        self.stopped = True


class Workshop:
    """Makes the engines of one model, and says what becomes of each load."""

    def __init__(self) -> None:
        self.engines: list[Loadable] = []
        self.gate, self.stop_gate, self.begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.stop_gate.set()
        self.broken = False
        self.clock = ManualClock()

    def make(self) -> Loadable:
        self.engines.append(Loadable(self))
        return self.engines[-1]

    def model(self, name: str = "a", **section: Any) -> HostedModel:
        section = {"load": "first_use", **section}
        return HostedModel(
            name, ModelSection("stub", **section), EngineSettings(), self.make, self.clock, retry_after_s=7.0
        )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is under way on this loop or a thread."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def session(model: HostedModel, during: Callable[[], Awaitable[object]] | None = None) -> str:
    """The outcome of one session: `served`, or the error."""
    try:
        async with model.use():
            if during is not None:
                await during()
            return "served"
    except StreamerError as refusal:
        return f"{refusal.code}: {refusal.message}"


async def test_first_callers_that_come_together_load_the_model_once() -> None:
    workshop = Workshop()
    workshop.gate.clear()
    model = workshop.model()
    sessions = [asyncio.create_task(session(model)) for _ in range(20)]
    await workshop.begun.wait()
    assert (model.state, model.sessions) == (ModelState.LOADING, 20)
    workshop.gate.set()
    assert await asyncio.gather(*sessions) == ["served"] * 20
    assert len(workshop.engines) == 1


async def test_a_model_that_is_loaded_at_the_start_is_ready_before_its_first_session() -> None:
    workshop = Workshop()
    model = workshop.model(load="start")
    await model.start()
    assert model.is_loaded
    assert await session(model) == "served"
    assert len(workshop.engines) == 1


async def test_a_model_of_first_use_is_not_loaded_at_the_start() -> None:
    workshop = Workshop()
    model = workshop.model()
    await model.start()
    assert model.state is ModelState.UNLOADED
    assert model.readiness.ready  # it takes sessions: the first one loads it
    assert workshop.engines == []


async def test_a_caller_who_has_waited_too_long_is_refused_and_the_load_goes_on() -> None:
    workshop = Workshop()
    workshop.gate.clear()
    model = workshop.model(load_wait_s=8.0)
    waiting = asyncio.create_task(session(model))
    await workshop.begun.wait()
    workshop.clock.advance(8.0)
    assert await waiting == "overloaded: model 'a' is being loaded"
    assert model.refused == 1
    assert model.sessions == 0
    workshop.gate.set()
    await until(lambda: model.is_loaded)
    assert await session(model) == "served"
    assert len(workshop.engines) == 1


async def test_a_failed_load_is_told_to_all_who_wait_without_its_reason() -> None:
    workshop = Workshop()
    workshop.gate.clear()
    workshop.broken = True
    model = workshop.model()
    sessions = [asyncio.create_task(session(model)) for _ in range(3)]
    await workshop.begun.wait()
    workshop.gate.set()
    assert await asyncio.gather(*sessions) == ["model_error: model 'a' could not be loaded"] * 3
    assert model.refused == 3
    assert model.readiness.reason == "could not be loaded: no weights in /secret"  # for the operator


async def test_after_a_failed_load_nobody_tries_again_before_a_pause_that_grows() -> None:
    workshop = Workshop()
    workshop.broken = True
    model = workshop.model()
    pauses = []
    for attempts in range(1, 9):
        with pytest.raises(ModelUnavailable) as refused:
            async with model.use():
                pass
        pauses.append(refused.value.retry_after_s)
        assert len(workshop.engines) == attempts
        workshop.clock.advance(pauses[-1] - 0.01)
        assert await session(model) == "model_error: model 'a' could not be loaded"
        assert len(workshop.engines) == attempts
        workshop.clock.advance(0.02)
    assert pauses == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30])
    workshop.broken = False
    assert await session(model) == "served"
    assert model.state is ModelState.READY


async def test_an_idle_model_is_let_go_after_its_time_and_loaded_again_by_the_next_session() -> None:
    workshop = Workshop()
    model = workshop.model(keep_s=KEEP_S)
    assert await session(model) == "served"
    workshop.clock.advance(KEEP_S - 1)
    assert model.is_loaded
    assert await session(model) == "served"  # the time begins anew
    workshop.clock.advance(KEEP_S - 1)
    assert model.is_loaded
    workshop.clock.advance(1)
    await until(lambda: model.state is ModelState.UNLOADED)
    assert [engine.stopped for engine in workshop.engines] == [True]
    assert workshop.clock.timers == 0
    assert await session(model) == "served"
    assert [engine.stopped for engine in workshop.engines] == [True, False]


async def test_a_model_in_use_is_not_let_go() -> None:
    workshop = Workshop()
    model = workshop.model(keep_s=KEEP_S)
    async with model.use():
        assert await session(model) == "served"
        workshop.clock.advance(100 * KEEP_S)
        assert model.is_loaded
    workshop.clock.advance(KEEP_S)
    await until(lambda: model.state is ModelState.UNLOADED)


async def test_without_a_time_a_model_stays() -> None:
    workshop = Workshop()
    model = workshop.model()
    assert await session(model) == "served"
    assert workshop.clock.timers == 0
    assert model.is_loaded


async def test_a_model_that_nobody_came_for_in_the_end_is_let_go_as_well() -> None:
    workshop = Workshop()
    workshop.gate.clear()
    model = workshop.model(keep_s=KEEP_S, load_wait_s=1.0)
    waiting = asyncio.create_task(session(model))
    await workshop.begun.wait()
    workshop.clock.advance(1.0)
    await waiting
    workshop.gate.set()
    await until(lambda: model.is_loaded)
    workshop.clock.advance(KEEP_S)
    await until(lambda: model.state is ModelState.UNLOADED)


async def test_a_session_that_comes_while_a_model_is_let_go_waits_for_that_and_then_loads_it() -> None:
    workshop = Workshop()
    workshop.stop_gate.clear()
    model = workshop.model(keep_s=KEEP_S)
    assert await session(model) == "served"
    workshop.clock.advance(KEEP_S)
    coming = asyncio.create_task(session(model))
    await asyncio.sleep(0)
    assert model.state is ModelState.UNLOADING
    assert len(workshop.engines) == 1  # two at once might not fit into memory
    workshop.stop_gate.set()
    assert await coming == "served"
    assert [engine.stopped for engine in workshop.engines] == [True, False]
    assert model.is_loaded


async def test_a_full_model_says_its_name_and_leaves_its_neighbours_alone() -> None:
    workshop, other = Workshop(), Workshop()
    full, free = workshop.model("full", max_sessions=2), other.model("free")
    async with AsyncExitStack() as sessions:
        for _ in range(2):
            await sessions.enter_async_context(full.use())
        with pytest.raises(Overloaded) as refused:
            full.check_admission()
        assert refused.value.message == "model 'full' has reached its limit of 2 sessions"
        assert refused.value.retry_after_s == 7.0
        assert await session(free) == "served"
    assert await session(full) == "served"


async def test_the_refusal_of_an_overloaded_engine_names_the_model() -> None:
    workshop = Workshop()
    model = workshop.model()
    assert await session(model) == "served"
    workshop.engines[0].refuse_admission = Overloaded("the inference queue is full", retry_after_s=3.0)
    with pytest.raises(Overloaded) as refused:
        model.check_admission()
    assert refused.value.message == "model 'a': the inference queue is full"
    assert model.refused == 1
    assert refused.value.retry_after_s == 3.0


async def test_the_last_place_of_a_model_is_not_lost_to_its_load() -> None:
    workshop = Workshop()
    assert await session(workshop.model(max_sessions=1)) == "served"


@pytest.mark.parametrize("when", ["loading", "unloading", "ready"])
async def test_a_model_stops_from_any_state(when: str) -> None:
    workshop = Workshop()
    model = workshop.model(keep_s=KEEP_S)
    sessions = []
    if when == "loading":
        workshop.gate.clear()
        sessions = [asyncio.create_task(session(model)) for _ in range(2)]
        await workshop.begun.wait()
    else:
        assert await session(model) == "served"
    if when == "unloading":
        workshop.clock.advance(KEEP_S)
    await model.stop(1.0)
    assert await asyncio.gather(*sessions) == ["draining: the server is stopping"] * len(sessions)
    assert all(engine.stopped for engine in workshop.engines)
    assert workshop.clock.timers == 0


async def test_a_pool_names_its_models_to_a_request_for_another() -> None:
    workshop = Workshop()
    pool = ModelPool([workshop.model("english"), workshop.model("any")])
    assert pool.named("any").name == "any"
    assert pool.named("").name == "english"
    with pytest.raises(UnknownModel) as refused:
        pool.named("klingon")
    assert refused.value.code is ErrorCode.UNKNOWN_MODEL
    assert refused.value.message == "model: expected one of english, any, got 'klingon'"


async def test_a_pool_is_ready_as_long_as_any_of_its_models_is() -> None:
    good, bad = Workshop(), Workshop()
    bad.broken = True
    pool = ModelPool([good.model("good"), bad.model("bad")])
    await pool.start()
    await session(pool.named("bad"))
    assert pool.readiness.ready
    assert pool.states == {"good": "unloaded", "bad": "failed: could not be loaded: no weights in /secret"}
    good.broken = True
    await session(pool.named("good"))
    assert not pool.readiness.ready
    assert pool.readiness.reason.startswith("good: could not be loaded")


async def test_a_start_fails_if_one_of_the_models_of_the_start_does_and_names_it() -> None:
    good, bad = Workshop(), Workshop()
    bad.broken = True
    pool = ModelPool([good.model("good", load="start"), bad.model("bad", load="start")])
    with pytest.raises(ModelLoadError) as refused:
        await pool.start()
    assert refused.value.message == "models.bad: no weights in /secret"
    await pool.stop(1.0)
    assert good.engines[0].stopped


async def test_the_load_of_a_pool_is_that_of_its_busiest_model() -> None:
    workshop = Workshop()
    pool = ModelPool([workshop.model("a"), workshop.model("b")])
    assert pool.depth.load == 0.0
    assert pool.sessions == {}
    async with pool.named("b").use():
        assert pool.sessions == {"b": 1}
