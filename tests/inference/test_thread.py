"""A thread that hangs cannot be killed: its job fails, another takes its place up to a bound."""

import threading

from streamer.errors import ErrorCode
from streamer.inference.observer import LossCause
from streamer.inference.settings import EngineSettings
from streamer.models.contract import Model
from streamer.session.actions import JobFailed, Output
from tests.inference.harness import Outcomes, Recorder, job, running, until


class Sticky(Model):
    """Hangs until let go, on sessions named so."""

    timeout_floor_s = 0.2
    timeout_factor = 0.0
    release = threading.Event()

    def infer(self, batch):
        if batch[0].session_id == "hang":
            assert self.release.wait(20)
        return [threading.current_thread().ident] * len(batch)


async def test_hung_thread_is_replaced_until_too_many_hang_and_again_when_one_returns():
    Sticky.release = threading.Event()
    got, record = Outcomes(), Recorder()
    async with running(Sticky, EngineSettings(max_hung_threads=2, restart_backoff_s=0.01), observer=record) as engine:
        got.submit(engine, job(0, "hang"))
        failed = JobFailed(ErrorCode.MODEL_TIMEOUT, "the model took too long for this segment")
        assert await got.wait(0, "hang") == failed
        got.submit(engine, job(0, "good"))
        assert isinstance(await got.wait(0, "good"), Output)
        assert engine.readiness.ready
        got.submit(engine, job(1, "hang"))
        assert await got.wait(1, "hang") == failed
        assert not engine.readiness.ready
        assert "2 threads are hung and cannot be terminated" in engine.readiness.reason
        assert engine.depth.workers_down == 1
        got.submit(engine, job(1, "good"))
        Sticky.release.set()
        assert isinstance(await got.wait(1, "good"), Output)
        assert engine.readiness.ready
    assert record.lost == [(0, LossCause.HUNG)] * 2


async def test_late_answer_of_a_hung_thread_is_nobodys():
    Sticky.release = threading.Event()
    got = Outcomes()
    async with running(Sticky) as engine:
        got.submit(engine, job(0, "hang"))
        await got.wait(0, "hang")
        Sticky.release.set()
        got.submit(engine, job(0, "good"))
        await got.wait(0, "good")
    assert len(got.of["hang", 0]) == 1


async def test_worker_that_fails_on_silence_at_rest_turns_the_engine_unready_until_it_answers():
    class Moody(Model):
        broken = False

        def infer(self, batch):
            if Moody.broken:
                raise RuntimeError("lost my weights")
            return ["fine"]

    got, record = Outcomes(), Recorder()
    async with running(Moody, EngineSettings(canary_interval_s=0.02), observer=record) as engine:
        Moody.broken = True
        await until(lambda: not engine.readiness.ready)
        assert engine.readiness.reason == "worker 0 failed its health check: RuntimeError: lost my weights"
        Moody.broken = False
        await until(lambda: engine.readiness.ready)
        got.submit(engine, job())
        assert await got.wait() == Output.of("fine")
    assert not record.lost
