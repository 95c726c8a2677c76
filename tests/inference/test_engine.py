"""The engine over real threads: batches, order, what is overtaken, cancelled or released, and what it refuses."""

import pytest

from streamer.errors import Overloaded
from streamer.inference.engine import Engine
from streamer.inference.observer import DropCause
from streamer.inference.settings import EngineSettings
from streamer.models.contract import Model
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobKind, Output, Shed
from streamer.testing import ManualClock
from tests.inference.harness import ModelFactory, Outcomes, Recorder, job, running, until
from tests.inference.models import GatedModel, entered


async def test_job_is_answered_with_json():
    got = Outcomes()
    async with running(ModelSpec("stub")) as engine:
        got.submit(engine, job(7, n=320))
        assert await got.wait(7) == Output.of({"count": 320})
        await until(lambda: engine.depth.running_items == engine.depth.pending_items == 0)  # an answer goes out first


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


async def test_jobs_that_wait_run_together_and_finals_first():
    model = GatedModel(max_batch_size=2)
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
    model, got, record = GatedModel(), Outcomes(), Recorder()
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
    assert [cause for _, _, cause in record.dropped] == [DropCause.OVERTAKEN] * 2


async def test_cancelled_job_gets_no_outcome_waiting_or_running():
    model, got = GatedModel(), Outcomes()
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


@pytest.mark.parametrize("kind", [JobKind.FINAL, JobKind.INTERIM])
async def test_cancelled_job_of_a_batch_that_failed_is_no_dropped_interim(kind):
    class Together(GatedModel):
        """Fails on more than one item."""

        def infer(self, batch):
            outputs = super().infer(batch)
            if len(batch) > 1:
                raise MemoryError
            return outputs

    model, got, record = Together(max_batch_size=2), Outcomes(), Recorder()
    async with running(lambda: model, observer=record) as engine:
        got.submit(engine, job(0, "kept"))
        got.submit(engine, job(0, "cancelled", kind=kind))
        await entered(model)
        engine.cancel("cancelled", 0)
        model.gate.set()
        assert isinstance(await got.wait(0, "kept"), Output)
    assert [len(batch) for _, batch in record.batches] == [2, 1]
    assert not record.dropped
    assert not got.of["cancelled", 0]


async def test_released_session_leaves_nothing():
    model, got = GatedModel(), Outcomes()
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
        assert not engine._jobs_of
    assert not got.of["s", 0]
    assert not got.of["s", 1]


async def test_job_id_twice_is_our_own_misuse():
    async with running(ModelSpec("stub")) as engine:
        got = Outcomes()
        got.submit(engine, job(0))
        with pytest.raises(ValueError, match="job 0 of session s was submitted before"):
            got.submit(engine, job(0))
        await got.wait(0)


async def test_overload_sheds_interims_then_refuses_sessions_and_finishes_what_was_accepted():
    model, got, record = GatedModel(), Outcomes(), Recorder()
    async with running(lambda: model, EngineSettings(max_pending_items=3), observer=record) as engine:
        got.submit(engine, job(0, "busy"))
        await entered(model)
        got.submit(engine, job(0, "i", kind=JobKind.INTERIM))
        for n in range(3):
            engine.check_admission()
            got.submit(engine, job(n, "f"))
        assert await got.wait(0, "i") == Shed(by_overload=True)
        assert record.dropped == [("i", 0, DropCause.OVERLOAD)]
        with pytest.raises(Overloaded) as refusal:
            engine.check_admission()
        assert refusal.value.retry_after_s >= 1
        got.submit(engine, job(3, "f"))
        model.gate.set()
        outcomes = await got.wait_all([("f", n) for n in range(4)])
        assert all(isinstance(outcome, Output) for outcome in outcomes)
        engine.check_admission()


async def test_long_expected_wait_refuses_sessions():
    model, got = GatedModel(), Outcomes()
    clock = ManualClock()
    engine = Engine(ModelFactory(lambda: model), EngineSettings(max_expected_wait_s=1.0), clock=clock)
    await engine.start()
    got.submit(engine, job(0))
    await entered(model)
    clock.advance(9.0)
    model.gate.set()
    await got.wait(0)
    model.gate.clear()
    got.submit(engine, job(1))
    await entered(model)
    engine.check_admission()
    assert engine.depth.load == 0.0  # nothing waits: the worker runs its last job
    got.submit(engine, job(2))
    assert engine.depth.load == pytest.approx(0.9)
    got.submit(engine, job(3))
    assert engine.depth.load == 1.0
    with pytest.raises(Overloaded):
        engine.check_admission()
    model.gate.set()
    await got.wait(3)
    await engine.stop(5)
