"""The two ends of an engine: workers that load and are warmed, a failed start that says why, and how it stops."""

import asyncio
import os
import threading
from collections import Counter

import pytest

from streamer.errors import ErrorCode, ModelFailed, ModelLoadError
from streamer.inference.engine import Engine
from streamer.inference.settings import EngineSettings
from streamer.models.contract import FunctionModel, Model
from streamer.models.loading import ModelSpec
from streamer.session.actions import Output
from tests.inference.harness import ModelFactory, Outcomes, job, running, until
from tests.inference.models import GatedModel, entered


def built(log):
    """How often a `CountingModel` was built, by process."""
    return Counter(map(int, log.read_text().split()))


async def test_each_worker_loads_its_own():
    made = []

    class Counted(Model):
        workers = 3

        def load(self):
            made.append(self)

        def infer(self, batch):
            return [0]

    async with running(Counted) as engine:
        assert engine.depth.workers_idle == 3
    assert len(set(map(id, made))) == 3


@pytest.mark.parametrize("workers", [1, 3])
async def test_model_in_threads_is_built_once_per_worker(tmp_path, workers):
    spec = ModelSpec("tests.inference.models:CountingModel", {"log": tmp_path / "built", "workers": workers})
    async with running(spec) as engine:
        assert engine.depth.workers_idle == workers
    assert built(tmp_path / "built") == {os.getpid(): workers}


async def test_model_in_processes_is_built_once_in_each_of_them_and_once_for_its_numbers(tmp_path):
    spec = ModelSpec(
        "tests.inference.models:CountingModel", {"log": tmp_path / "built", "workers": 2, "executor": "process"}
    )
    async with running(spec):
        pass
    counts = built(tmp_path / "built")
    assert counts.pop(os.getpid()) == 1
    assert list(counts.values()) == [1, 1]


async def test_worker_that_starts_again_gets_a_model_of_its_own():
    loaded = []

    class Late(Model):
        workers = 2

        def load(self):
            loaded.append(self)
            if self is loaded[0]:
                raise OSError("not there yet")

        def infer(self, batch):
            return [0]

    async with running(Late, EngineSettings(restart_backoff_s=0.01)) as engine:
        await until(lambda: engine.depth.workers_idle == 2)
    assert len(loaded) == len(set(map(id, loaded))) == 3


async def test_number_of_workers_may_be_replaced_and_the_models_own_is_still_told():
    engine = Engine(ModelFactory(lambda: FunctionModel(lambda samples: 0, workers=3)), workers=1)
    await engine.start()
    assert engine.depth.workers_idle == 1
    assert engine.model.workers == 3
    await engine.stop(5)


async def test_worker_is_warmed_on_silence_before_ready():
    seen = []

    def remember(samples):
        seen.append((len(samples), float(abs(samples).max()), samples.flags.writeable))

    async with running(lambda: FunctionModel(remember, sample_rate=8_000)) as engine:
        assert engine.readiness.ready
        assert seen == [(8_000, 0.0, False)]


async def test_no_worker_that_loads_is_an_error_that_says_why():
    class Broken(Model):
        workers = 2

        def load(self):
            raise OSError("no weights in /models")

        def infer(self, batch):
            return [0]

    with pytest.raises(
        ModelLoadError, match=r"model 'Broken': loading the model failed: OSError: no weights in /models"
    ):
        async with running(Broken):
            pass


async def test_uncaught_error_on_silence_is_a_failed_start_but_an_items_error_is_not():
    class Raises(Model):
        def infer(self, batch):
            raise RuntimeError("no silence please")

    class Returns(Model):
        def infer(self, batch):
            return [ModelFailed("too quiet")]

    with pytest.raises(ModelLoadError, match="no silence please"):
        async with running(Raises):
            pass
    async with running(Returns) as engine:
        assert engine.readiness.ready


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("workers", 0, "workers: expected an integer from 1 to 256, got 0"),
        ("max_batch_size", True, "max_batch_size: expected an integer from 1 to 4096, got True"),
        ("executor", "gpu", "executor: expected 'thread', 'process' or 'ray', got 'gpu'"),
        ("timeout_floor_s", float("nan"), "timeout_floor_s: expected a number of at least 0.001, got nan"),
        ("sample_rate", 16_000.0, "sample_rate: expected an integer from 4000 to 192000, got 16000.0"),
    ],
)
async def test_wrong_number_in_a_model_is_named(field, value, words):
    with pytest.raises(ModelLoadError, match=words):
        Engine(ModelFactory(lambda: FunctionModel(lambda samples: 0, **{field: value})))


async def test_stop_fails_what_waits_and_finishes_what_runs():
    model, got = GatedModel(), Outcomes()
    engine = Engine(ModelFactory(lambda: model))
    await engine.start()
    got.submit(engine, job(0))
    await entered(model)
    got.submit(engine, job(1))
    stopping = asyncio.create_task(engine.stop(10))
    assert (await got.wait(1)).code is ErrorCode.DRAINING
    got.submit(engine, job(2))
    assert (await got.wait(2)).code is ErrorCode.DRAINING
    assert not engine.readiness.ready
    model.gate.set()
    await stopping
    assert got.last(0) == Output.of({"n": 160})


async def test_unload_runs_at_the_end():
    unloaded = threading.Event()

    class Tidy(Model):
        def infer(self, batch):
            return [0]

        def unload(self):
            unloaded.set()

    async with running(Tidy):
        pass
    assert unloaded.is_set()
