"""The engine over real threads: batches, order, failures confined to their item, nothing left behind."""

import asyncio
import threading

import numpy as np
import pytest

from streamer.errors import ErrorCode, ModelFailed, ModelLoadError, Overloaded
from streamer.inference.engine import Engine
from streamer.inference.observer import Dropped, Ended
from streamer.inference.settings import EngineSettings
from streamer.models.contract import FunctionModel, Model
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, JobKind, Output, Shed
from tests.inference.harness import Made, Outcomes, Recorder, job, running, until


class Gated(Model):
    """Waits at a gate in each call that is not the engine's own."""

    timeout_floor_s = 30.0

    def __init__(self, **settings):
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls = []
        for key, value in settings.items():
            setattr(self, key, value)

    def infer(self, batch):
        if batch[0].session_id:
            self.calls.append([(item.session_id, item.start) for item in batch])
            self.entered.release()
            assert self.gate.wait(20)
        return [{"n": len(item.samples)} for item in batch]


class Scripted(Model):
    """Does with each item what the first sample says."""

    max_batch_size = 8

    def __init__(self, acts, **settings):
        self.acts = acts
        for key, value in settings.items():
            setattr(self, key, value)

    def infer(self, batch):
        return [self.acts[int(item.samples[0])](item) for item in batch]


async def entered(model):
    await asyncio.to_thread(model.entered.acquire, timeout=20)


async def test_job_is_answered_with_json():
    got = Outcomes()
    async with running(ModelSpec("stub")) as engine:
        got.submit(engine, job(7, n=320))
        assert await got.wait(7) == Output({"count": 320})
        await until(lambda: engine.depth.running_items == engine.depth.pending_items == 0)  # an answer goes out first


async def test_worker_is_warmed_on_silence_before_ready():
    seen = []

    def remember(samples):
        seen.append((len(samples), float(abs(samples).max()), samples.flags.writeable))

    async with running(lambda: FunctionModel(remember, sample_rate=8_000)) as engine:
        assert engine.readiness.ready
        assert seen == [(8_000, 0.0, False)]


async def test_model_gets_a_segment_with_everything():
    seen = []

    class Look(Model):
        def infer(self, batch):
            seen.extend(batch)
            return [None] * len(batch)

    got = Outcomes()
    async with running(Look) as engine:
        got.submit(
            engine, job(1, "me", kind=JobKind.INTERIM, start=80, n=4, value=0.5, options=b'{"lang":"en"}', channel=2)
        )
        await got.wait(1, "me")
    item = seen[-1]
    assert (item.session_id, item.channel, item.start, item.is_final) == ("me", 2, 80, False)
    assert item.options == {"lang": "en"}
    assert item.samples.tolist() == [0.5] * 4
    assert not item.samples.flags.writeable


async def test_numpy_outputs_become_json():
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": np.bool_(True), "d": float("nan")}
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: value])) as engine:
        got.submit(engine, job())
        assert await got.wait() == Output({"a": 0.5, "b": [0, 1, 2], "c": True, "d": None})


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (object(), "the model's output is not JSON: a value of type object"),
        ("x" * 2_000_000, "the model's output has 2000002 bytes, more than 1000000"),
        ({(1, 2): 3}, "the model's output is not JSON"),
    ],
)
async def test_output_that_is_not_json_is_named(output, words):
    got = Outcomes()
    async with running(lambda: Scripted([lambda item: output])) as engine:
        got.submit(engine, job())
        outcome = await got.wait()
    assert outcome.code is ErrorCode.MODEL_ERROR
    assert words in outcome.message


async def test_error_of_one_item_leaves_its_neighbours_and_its_text_stays_in_the_log(caplog):
    def bad(item):
        return ValueError("secret path /home/me")

    model = Scripted(
        [lambda item: 1, bad, lambda item: ModelFailed("too noisy")], max_batch_wait_ms=1000.0, max_batch_size=3
    )
    got, record = Outcomes(), Recorder()
    async with running(lambda: model, observer=record) as engine:
        for n in range(3):
            got.submit(engine, job(n, f"s{n}", value=float(n)))
        outcomes = await got.wait_all([(f"s{n}", n) for n in range(3)])
    assert record.batches == [(0, [("s0", 0), ("s1", 1), ("s2", 2)])]
    assert outcomes == [
        Output(1),
        JobFailed(ErrorCode.MODEL_ERROR, "the model failed on this segment"),
        JobFailed(ErrorCode.MODEL_ERROR, "too noisy"),
    ]
    assert "secret path" in caplog.text


async def test_uncaught_error_in_a_batch_is_tried_item_by_item():
    def explode(item):
        raise RuntimeError("boom")

    got, record = Outcomes(), Recorder()
    model = Scripted([lambda item: 1, explode], max_batch_wait_ms=1000.0, max_batch_size=2)
    async with running(lambda: model, observer=record) as engine:
        got.submit(engine, job(0, "good", value=0.0))
        got.submit(engine, job(1, "evil", value=1.0))
        assert await got.wait_all([("good", 0), ("evil", 1)]) == [
            Output(1),
            JobFailed(ErrorCode.MODEL_ERROR, "Internal server error"),
        ]
    assert [ended for _, _, ended in record.finished] == [Ended.RAISED, Ended.ANSWERED, Ended.RAISED]


@pytest.mark.parametrize("output", [{"not": "a list"}, "text", 5, [1, 2]])
async def test_wrong_shape_of_outputs_is_the_models_error(output, caplog):
    class Wrong(Model):
        def infer(self, batch):
            return [0] if not batch[0].session_id else output

    got = Outcomes()
    async with running(Wrong) as engine:
        got.submit(engine, job())
        assert (await got.wait()).message == "Internal server error"
    assert "infer()" in caplog.text


async def test_generator_becomes_partials_and_a_final():
    def words(item):
        yield "a"
        yield "a b"
        yield "a b c"

    async def later(item):
        for text in ("x", "x y"):
            await asyncio.sleep(0)
            yield text

    def fails(item):
        yield "half"
        yield "more"
        raise ValueError

    got = Outcomes()
    model = Scripted([words, later, fails, lambda item: iter(())], max_batch_wait_ms=1000.0, max_batch_size=4)
    async with running(lambda: model) as engine:
        for n in range(4):
            got.submit(engine, job(n, f"s{n}", value=float(n)))
        await got.wait_all([(f"s{n}", n) for n in range(4)])
    assert got.of["s0", 0] == [Output("a", True), Output("a b", True), Output("a b c")]
    assert got.of["s1", 1] == [Output("x", True), Output("x y")]
    assert got.of["s2", 2] == [
        Output("half", True),
        JobFailed(ErrorCode.MODEL_ERROR, "the model failed on this segment"),
    ]
    assert got.of["s3", 3] == [Output(None)]


async def test_generator_without_end_is_bounded():
    def endless(item):
        while True:
            yield 0

    got = Outcomes()
    async with running(lambda: Scripted([endless]), EngineSettings(max_partials=5)) as engine:
        got.submit(engine, job())
        assert (await got.wait()).message == "the model yielded more than 5 outputs for one segment"
    assert len(got.of["s", 0]) == 6


async def test_jobs_that_wait_run_together_and_finals_first():
    model = Gated(max_batch_size=2)
    got = Outcomes()
    async with running(lambda: model) as engine:
        got.submit(engine, job(0, "a"))
        await entered(model)
        got.submit(engine, job(1, "b", kind=JobKind.INTERIM, start=1))
        got.submit(engine, job(2, "c", start=2))
        got.submit(engine, job(3, "d", kind=JobKind.PIECE, start=3))
        assert engine.depth.pending_items == 3
        model.gate.set()
        await got.wait_all([("a", 0), ("b", 1), ("c", 2), ("d", 3)])
    assert model.calls == [[("a", 0)], [("c", 2), ("d", 3)], [("b", 1)]]


async def test_overtaken_interim_never_runs_and_is_told_outside_of_submit():
    model, got, record = Gated(), Outcomes(), Recorder()
    async with running(lambda: model, observer=record) as engine:
        got.submit(engine, job(0, "other"))
        await entered(model)
        got.submit(engine, job(1, kind=JobKind.INTERIM, start=1))
        got.submit(engine, job(2, kind=JobKind.INTERIM, start=2))
        assert got.last(1) is None
        assert await got.wait(1) == Shed()
        got.submit(engine, job(3, start=3))
        assert await got.wait(2) == Shed()
        model.gate.set()
        await got.wait(3)
    assert model.calls == [[("other", 0)], [("s", 3)]]
    assert [cause for _, _, cause in record.dropped] == [Dropped.OVERTAKEN] * 2


async def test_cancelled_job_gets_no_outcome_waiting_or_running():
    model, got = Gated(), Outcomes()
    async with running(lambda: model) as engine:
        got.submit(engine, job(0))
        await entered(model)
        got.submit(engine, job(1))
        got.submit(engine, job(2))
        engine.cancel("s", 0)
        engine.cancel("s", 1)
        engine.cancel("s", 99)
        model.gate.set()
        await got.wait(2)
    assert not got.of["s", 0]
    assert not got.of["s", 1]
    assert len(model.calls) == 2


async def test_released_session_leaves_nothing():
    model, got = Gated(), Outcomes()
    async with running(lambda: model) as engine:
        got.submit(engine, job(0))
        await entered(model)
        got.submit(engine, job(1))
        engine.release("s")
        assert engine.depth.pending_items == 0
        model.gate.set()
        got.submit(engine, job(0, "t"))
        await got.wait(0, "t")
        assert engine.depth.running_items == 0
        assert not engine._entries
        assert not engine._wanted
    assert not got.of["s", 0]
    assert not got.of["s", 1]


async def test_job_id_twice_is_our_own_misuse():
    async with running(ModelSpec("stub")) as engine:
        got = Outcomes()
        got.submit(engine, job(0))
        with pytest.raises(ValueError, match="job 0 of session s is here already"):
            got.submit(engine, job(0))
        await got.wait(0)


async def test_overload_sheds_interims_then_refuses_sessions_and_finishes_what_was_accepted():
    model, got, record = Gated(), Outcomes(), Recorder()
    async with running(lambda: model, EngineSettings(max_pending_items=3), observer=record) as engine:
        got.submit(engine, job(0, "busy"))
        await entered(model)
        got.submit(engine, job(0, "i", kind=JobKind.INTERIM))
        for n in range(3):
            engine.check_admission()
            got.submit(engine, job(n, "f"))
        assert await got.wait(0, "i") == Shed()
        assert record.dropped == [("i", 0, Dropped.OVERLOAD)]
        with pytest.raises(Overloaded) as refusal:
            engine.check_admission()
        assert refusal.value.retry_after_s >= 1
        got.submit(engine, job(3, "f"))
        model.gate.set()
        outcomes = await got.wait_all([("f", n) for n in range(4)])
        assert all(isinstance(outcome, Output) for outcome in outcomes)
        engine.check_admission()


async def test_long_expected_wait_refuses_sessions():
    model, got = Gated(), Outcomes()
    now = 0.0
    engine = Engine(Made(lambda: model), EngineSettings(max_expected_wait_s=10.0), clock=lambda: now)
    await engine.start()
    got.submit(engine, job(0))
    await entered(model)
    now = 100.0
    model.gate.set()
    await got.wait(0)
    model.gate.clear()
    got.submit(engine, job(1))
    await entered(model)
    engine.check_admission()
    got.submit(engine, job(2))
    got.submit(engine, job(3))
    with pytest.raises(Overloaded):
        engine.check_admission()
    model.gate.set()
    await got.wait(3)
    await engine.stop(5)


async def test_no_worker_that_loads_is_an_error_that_says_why():
    class Broken(Model):
        workers = 2

        def load(self):
            raise OSError("no weights in /models")

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
        ("executor", "gpu", "executor: expected 'thread' or 'process', got 'gpu'"),
        ("timeout_floor_s", float("nan"), "timeout_floor_s: expected a number of at least 0.001, got nan"),
        ("sample_rate", 16_000.0, "sample_rate: expected an integer from 4000 to 192000, got 16000.0"),
    ],
)
async def test_wrong_number_in_a_model_is_named(field, value, words):
    with pytest.raises(ModelLoadError, match=words):
        Engine(Made(lambda: FunctionModel(lambda samples: 0, **{field: value})))


async def test_stop_fails_what_waits_and_finishes_what_runs():
    model, got = Gated(), Outcomes()
    engine = Engine(Made(lambda: model))
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
    assert got.last(0) == Output({"n": 160})


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
