"""Workers that come and go with the load: the rule alone, an engine in simulated time, real threads and processes."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ConfigError, ModelLoadError
from streamer.inference.engine import Engine
from streamer.inference.model_config import ModelConfig
from streamer.inference.scaling import ScalePolicy, WorkerLoad
from streamer.inference.settings import EngineSettings
from streamer.inference.worker_slot import SlotState
from streamer.models.contract import StreamingModel, WorkerRange
from streamer.models.loading import ModelSpec, load_model
from streamer.session.actions import Output
from tests.inference.harness import Outcomes, job, running, until
from tests.inference.test_process import doing, villain
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.model import Counting, SimulatedWorker, Temper

SETTINGS = EngineSettings(scale_up_wait_s=0.5, scale_up_after_s=2.0, scale_down_after_s=60.0)

# The rule -----------------------------------------------------------------------------------------------------------


class Looks:
    """A policy that looks once a second."""

    def __init__(self, low: int = 1, high: int = 8) -> None:
        self.policy = ScalePolicy(low, high, SETTINGS)
        self.workers = low
        self.now = 0.0

    def look(self, owed_s: float, busy: int, seconds: int = 1) -> int:
        for _ in range(seconds):
            self.now += 1.0
            self.workers = self.policy.decide(self.workers, WorkerLoad(owed_s, busy), self.now)
        return self.workers


def test_a_wait_must_last_before_a_worker_is_added() -> None:
    looks = Looks()
    assert looks.look(10.0, 1, seconds=2) == 1
    assert looks.look(0.0, 1) == 1
    assert looks.look(10.0, 1, seconds=2) == 1
    assert looks.look(10.0, 1) == 2


def test_workers_grow_by_need_at_most_to_double_and_to_the_limit() -> None:
    looks = Looks()
    counts = {looks.look(100.0, looks.workers) for _ in range(20)}
    assert counts == {1, 2, 4, 8}
    looks = Looks(low=4)
    assert looks.look(2.4, 4, seconds=3) == 5


def test_workers_shrink_one_by_one_after_a_quiet_time_down_to_the_least() -> None:
    looks = Looks(low=2)
    looks.workers = 5
    assert looks.look(0.0, 0, seconds=60) == 5
    assert looks.look(0.0, 0) == 4
    assert looks.look(0.0, 0, seconds=59) == 4
    assert looks.look(0.0, 0, seconds=1) == 3
    assert looks.look(0.0, 0, seconds=600) == 2


def test_workers_that_are_busy_are_kept_though_nothing_waits() -> None:
    looks = Looks()
    looks.workers = 4
    assert looks.look(0.0, 3, seconds=600) == 4


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 8)), max_size=200), st.integers(1, 4), st.integers(0, 4))
def test_the_bounds_hold_whatever_the_load(loads: list[tuple[float, int]], low: int, more: int) -> None:
    looks = Looks(low, low + more)
    for owed_s, busy in loads:
        assert low <= looks.look(owed_s, busy) <= low + more


def test_a_steady_load_changes_the_number_of_workers_only_at_its_beginning() -> None:
    """A model of which `demand` workers are busy: what waits grows while there are fewer, and is worked off by more."""
    for demand in (0.5, 1.5, 2.4, 3.7):
        looks, owed_s, changes = Looks(), 0.0, []
        for second in range(2_000):
            owed_s = max(0.0, owed_s + demand - looks.workers)
            before = looks.workers
            looks.look(owed_s, min(looks.workers, round(demand + min(owed_s, 1.0))))
            if looks.workers != before:
                changes.append(second)
        assert all(second < 1_000 for second in changes), (demand, changes)
        assert demand <= looks.workers <= demand / 0.5 + 1


# Simulated time -----------------------------------------------------------------------------------------------------


class Ranged(Counting):
    workers = WorkerRange(1, 6)
    max_batch_size = 4
    max_batch_wait_ms = 0.0


class Kept(StreamingModel):
    name = "kept"
    workers = WorkerRange(1, 4)
    max_batch_size = 4
    max_batch_wait_ms = 0.0

    def open(self, info):
        return None

    def step(self, states, batch):
        return [(None, None)] * len(batch)


class Source:
    def __init__(self, model: object) -> None:
        self.model = model

    def load(self) -> object:
        return self.model


class World:
    """An engine on a clock of its own, whose workers take 0.1 s for a call and 0.02 s for an item."""

    def __init__(self, loop: VirtualLoop, model: object) -> None:
        self.loop = loop
        rng = random.Random(1)
        temper = Temper(per_call_s=0.1, per_item_s=0.02)
        self.engine = Engine(
            Source(model),  # type: ignore[arg-type]
            SETTINGS,
            clock=VirtualClock(loop),
            spawn=lambda name, owner: SimulatedWorker(name, owner, temper, rng, []),  # type: ignore[arg-type, return-value]
        )
        self.got = Outcomes()
        self.numbers: dict[str, int] = {}
        self.seen: list[tuple[float, int]] = []
        """Time and number of workers, once a second."""

    @property
    def active(self) -> int:
        return self.engine._pool.active

    def submit(self, session: str) -> None:
        number = self.numbers[session] = self.numbers.get(session, -1) + 1
        self.got.submit(self.engine, job(number, session))

    async def offer(self, rate: float, seconds: float) -> None:
        """Submit jobs of many sessions, `rate` per second, evenly."""
        for index in range(round(rate * seconds)):
            self.submit(f"s{index % 50}")
            await asyncio.sleep(1 / rate)

    async def watch(self) -> None:
        while True:
            self.seen.append((self.loop.time(), self.active))
            await asyncio.sleep(1.0)


def simulate(world: World, body) -> None:  # type: ignore[no-untyped-def]
    async def run() -> None:
        await world.engine.start()
        watching = asyncio.create_task(world.watch())
        await body(world)
        watching.cancel()
        await world.engine.stop(1.0)

    world.loop.run_until_complete(run())


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_workers_follow_a_load_that_rises_and_falls_and_no_job_is_lost(loop: VirtualLoop) -> None:
    world = World(loop, Ranged())

    async def body(world: World) -> None:
        await world.offer(5.0, 60.0)
        assert world.active == 1
        await world.offer(60.0, 120.0)  # one worker does some 24 a second
        assert 3 <= world.active <= 6
        await world.offer(5.0, 600.0)
        assert world.active == 1

    simulate(world, body)
    assert sum(world.numbers.values()) + len(world.numbers) == len(world.got.of)
    assert all(isinstance(one, Output) for [one] in world.got.of.values())
    counts = [count for _, count in world.seen]
    turns = sum(a != b for a, b in pairwise(counts))
    assert turns <= 2 * max(counts)


def test_a_state_is_never_lost_to_a_worker_that_is_let_go(loop: VirtualLoop) -> None:
    world = World(loop, Kept())

    async def body(world: World) -> None:
        for _ in range(600):  # 40 sessions at once
            for session in range(4):
                world.submit(f"s{(world.numbers.get('s0', 0) + session * 10) % 40}")
            await asyncio.sleep(0.05)
        assert world.active > 1
        for _ in range(300):  # few of them go on
            world.submit("s1")
            world.submit("s2")
            await asyncio.sleep(2.0)
        assert world.active == 1
        assert world.engine._pool.count(SlotState.PARKED) < 3  # those that have states stay
        for session in list(world.numbers):
            world.engine.release(session)
        await asyncio.sleep(5.0)
        assert world.engine._pool.count(SlotState.PARKED) == 3

    simulate(world, body)
    assert not any(one.state_lost for outcomes in world.got.of.values() for one in outcomes)


# Real workers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_real_workers_are_started_and_let_go(executor: str, tmp_path) -> None:
    flag = tmp_path / "flag"
    settings = EngineSettings(scale_up_wait_s=0.01, scale_up_after_s=0.001, scale_down_after_s=0.001)
    spec = villain(executor=executor, workers={"min": 1, "max": 3}, max_batch_wait_ms=0.0)
    got = Outcomes()
    async with running(spec, settings) as engine:
        assert engine.depth.workers_down == 0
        got.submit(engine, doing(0, "warm", "wait_for", flag=str(flag)))
        await asyncio.sleep(0.05)  # so that a job is known to take a while
        flag.touch()
        await got.wait(0, "warm")
        flag.unlink()
        for number in range(100):
            got.submit(engine, doing(number, f"s{number}", "wait_for", flag=str(flag)))
        await until(lambda: engine._pool.active == 3 and engine._pool.count(SlotState.BUSY) == 3)
        flag.touch()
        await got.wait_all([(f"s{number}", number) for number in range(100)])
        await until(lambda: engine._pool.active == 1 and engine._pool.count(SlotState.PARKED) == 2)
        assert engine.readiness.ready
        got.submit(engine, doing(0, "after"))
        assert isinstance(await got.wait(0, "after"), Output)


# Settings -----------------------------------------------------------------------------------------------------------


def test_a_range_comes_from_the_settings_and_a_number_stays_one() -> None:
    ranged = ModelConfig.of(load_model("stub", {"workers": {"min": 2, "max": 5}}))
    assert (ranged.min_workers, ranged.workers) == (2, 5)
    fixed = ModelConfig.of(load_model("stub", {"workers": 3}))
    assert (fixed.min_workers, fixed.workers) == (3, 3)


@pytest.mark.parametrize(
    ("workers", "error"),
    [
        ({"min": 0, "max": 2}, ModelLoadError),
        ({"min": 3, "max": 2}, ModelLoadError),
        ({"min": 1}, ConfigError),
        ({"min": 1, "max": "many"}, ConfigError),
    ],
)
def test_a_wrong_range_is_named(workers: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error, match="workers"):
        ModelConfig.of(ModelSpec("stub", {"workers": workers}).load())
