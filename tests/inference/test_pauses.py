"""A pause of the server is one of its workers, or hides their answers: no worker is taken for hung because of it."""

import os
import signal

import pytest

from streamer.clock import PauseAwareClock
from streamer.errors import Overloaded
from streamer.inference.engine import Engine
from streamer.inference.observer import LossCause
from streamer.inference.settings import EngineSettings
from streamer.models.loading import ModelSpec
from streamer.session.actions import Output
from streamer.testing import ManualClock
from tests.inference.harness import ModelFactory, Outcomes, Recorder, job, until
from tests.inference.models import GatedModel, entered
from tests.inference.test_process import pid_of

PAUSE_S = 62.0
TIMEOUT_S = GatedModel.timeout_floor_s


class Paused:
    """An engine whose time the test moves."""

    def __init__(self, source, settings=None):
        self.time = ManualClock()
        self.clock = PauseAwareClock(self.time)
        self.clock.start()
        self.got, self.record = Outcomes(), Recorder()
        self.engine = Engine(source, settings, clock=self.clock, observer=self.record)

    async def __aenter__(self):
        await self.engine.start()
        return self

    async def __aexit__(self, *_):
        await self.engine.stop(5)


async def test_a_call_that_a_pause_came_upon_has_the_rest_of_its_time():
    model = GatedModel()
    async with Paused(ModelFactory(lambda: model)) as paused:
        paused.got.submit(paused.engine, job(0))
        await entered(model)
        paused.time.jump(PAUSE_S)
        paused.time.advance(TIMEOUT_S - 1)
        assert not paused.record.lost
        model.gate.set()
        assert isinstance(await paused.got.wait(0), Output)


async def test_a_call_that_is_not_answered_in_the_rest_of_its_time_is_given_up():
    model = GatedModel()
    async with Paused(ModelFactory(lambda: model)) as paused:
        paused.got.submit(paused.engine, job(0))
        await entered(model)
        paused.time.jump(PAUSE_S)
        paused.time.advance(TIMEOUT_S + 1)
        assert paused.record.lost == [(0, LossCause.HUNG)]
        model.gate.set()


async def test_a_pause_says_nothing_of_how_fast_the_model_is():
    model = GatedModel()
    async with Paused(ModelFactory(lambda: model), EngineSettings(max_expected_wait_s=1.0)) as paused:
        paused.got.submit(paused.engine, job(0))
        await entered(model)
        paused.time.jump(PAUSE_S)
        model.gate.set()
        await paused.got.wait(0)
        model.gate.clear()
        for number in range(1, 4):
            paused.got.submit(paused.engine, job(number))
        await entered(model)
        await until(lambda: paused.engine.depth.pending_items == 2)
        paused.engine.check_admission()
        model.gate.set()
        await paused.got.wait(3)


async def test_a_model_that_is_slow_without_a_pause_refuses_sessions():
    """The counterpart: what the engine measures is what it refuses by."""
    model = GatedModel()
    async with Paused(ModelFactory(lambda: model), EngineSettings(max_expected_wait_s=1.0)) as paused:
        paused.got.submit(paused.engine, job(0))
        await entered(model)
        paused.time.advance(TIMEOUT_S - 1)
        model.gate.set()
        await paused.got.wait(0)
        model.gate.clear()
        for number in range(1, 4):
            paused.got.submit(paused.engine, job(number))
        await entered(model)
        await until(lambda: paused.engine.depth.pending_items == 2)
        with pytest.raises(Overloaded):
            paused.engine.check_admission()
        model.gate.set()
        await paused.got.wait(3)


async def test_a_process_that_was_stopped_together_with_the_server_goes_on():
    async with Paused(ModelSpec("tests.inference.villains:Villain", {})) as paused:
        pid = await pid_of(paused.engine, paused.got)
        os.kill(pid, signal.SIGSTOP)
        paused.got.submit(paused.engine, job(1))
        await until(lambda: paused.engine.depth.running_items == 1)
        paused.time.jump(PAUSE_S)
        assert not paused.record.lost
        os.kill(pid, signal.SIGCONT)
        assert isinstance(await paused.got.wait(1), Output)
        assert not paused.record.lost
