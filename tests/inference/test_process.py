"""Real worker processes, really killed, hung, stopped and grown: who is told what, and who is not disturbed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import psutil

from streamer.errors import ErrorCode
from streamer.inference.observer import CallOutcome, LossCause
from streamer.inference.process_worker import _exit_code
from streamer.inference.settings import EngineSettings
from streamer.models.loading import ModelSpec
from streamer.session.actions import JobFailed, JobKind, Output, Shed
from tests.inference.harness import PATIENCE_S, Outcomes, Recorder, job, running


def villain(name="Villain", **parameters):
    return ModelSpec(f"tests.inference.villains:{name}", parameters)


def doing(number, session="s", act="answer", **more):
    place = {key: more.pop(key) for key in ("stream", "channel", "start", "kind") if key in more}
    return job(number, session, options=json.dumps({"act": act, **more}).encode(), **place)


async def pid_of(engine, got, session="asks", number=0):
    got.submit(engine, doing(number, session))
    return (await got.wait(number, session)).decode()["pid"]


async def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(pid).wait, PATIENCE_S)


async def test_worker_is_another_process_that_streams_partials_and_survives_sys_exit():
    got, record = Outcomes(), Recorder()
    async with running(villain(), observer=record) as engine:
        pid = await pid_of(engine, got)
        assert pid != os.getpid()
        got.submit(engine, doing(1, act="words", words=["a", "a b", "a b c"]))
        await got.wait(1)
        got.submit(engine, doing(2, act="exit"))
        assert await got.wait(2) == JobFailed(ErrorCode.MODEL_ERROR, "Internal server error")
    assert got.of["s", 1] == [Output.of("a", True), Output.of("a b", True), Output.of("a b c")]
    assert not record.lost
    await gone(pid)


async def test_death_of_a_worker_costs_only_the_job_that_kills_it(caplog):
    got, record = Outcomes(), Recorder()
    async with running(villain(max_batch_size=3), observer=record) as engine:
        got.submit(engine, doing(0, "good"))
        got.submit(engine, doing(0, "evil", "vanish"))
        got.submit(engine, doing(0, "interim", kind=JobKind.INTERIM))
        good, evil, interim = await got.wait_all([("good", 0), ("evil", 0), ("interim", 0)])
        assert isinstance(good, Output)
        assert evil == JobFailed(ErrorCode.MODEL_CRASHED, "the model crashed on this segment")
        assert interim == Shed()
        assert len(record.batches[0][1]) == 3
        assert all(len(jobs) == 1 for _, jobs in record.batches[1:])
        assert [ended for _, _, ended in record.finished] == [
            CallOutcome.CRASHED,
            CallOutcome.ANSWERED,
            CallOutcome.CRASHED,
        ]
        assert record.lost == [(0, LossCause.CRASHED)] * 2
        await record.until(lambda: len(record.started) == 3)
        assert engine.readiness.ready
        assert engine.depth.pending_items == engine.depth.running_items == 0
    assert "worker 0 exited with code 7" in caplog.text


async def test_job_whose_worker_was_killed_under_it_is_tried_once_more(tmp_path):
    got, record = Outcomes(), Recorder()
    async with running(villain(), observer=record) as engine:
        got.submit(engine, doing(0, act="die_once", flag=str(tmp_path / "flag")))
        assert isinstance(await got.wait(), Output)
    assert record.lost == [(0, LossCause.CRASHED)]
    assert not record.failed


async def test_hung_call_is_killed_after_its_time_and_the_next_job_runs():
    got, record = Outcomes(), Recorder()
    async with running(villain(timeout_floor_s=0.3, timeout_factor=0.0), observer=record) as engine:
        pid = await pid_of(engine, got)
        got.submit(engine, doing(0, act="hang"))
        got.submit(engine, doing(0, "next"))
        assert await got.wait() == JobFailed(ErrorCode.MODEL_TIMEOUT, "the model took too long for this segment")
        assert isinstance(await got.wait(0, "next"), Output)
        assert record.lost == [(0, LossCause.HUNG)]
        await gone(pid)


async def test_worker_killed_at_rest_is_noticed_and_replaced_before_anyone_asks():
    got, record = Outcomes(), Recorder()
    async with running(villain(), observer=record) as engine:
        os.kill(await pid_of(engine, got), signal.SIGKILL)
        await record.until(lambda: record.lost)
        assert not engine.readiness.ready
        assert "killed by SIGKILL" in engine.readiness.reason
        await record.until(lambda: len(record.started) == 2)
        assert engine.readiness.ready
        assert isinstance((await pid_of(engine, got, number=1)), int)


async def test_worker_that_does_not_answer_at_rest_is_replaced():
    got, record = Outcomes(), Recorder()
    spec = villain(timeout_floor_s=0.3, timeout_factor=0.0)
    async with running(spec, EngineSettings(canary_interval_s=0.05), observer=record) as engine:
        pid = await pid_of(engine, got)
        os.kill(pid, signal.SIGSTOP)
        await record.until(lambda: record.lost)
        assert record.lost[0] == (0, LossCause.HUNG)
        assert "did not answer within 0.3 s" in engine.readiness.reason
        await record.until(lambda: len(record.started) == 2)
        assert engine.readiness.ready
        await gone(pid)


async def test_worker_past_its_memory_limit_is_recycled_between_batches():
    got, record = Outcomes(), Recorder()
    async with running(villain(memory_limit_mb=1), observer=record) as engine:
        first = await pid_of(engine, got)
        second = await pid_of(engine, got, number=1)
        assert first != second
        assert {cause for _, cause in record.lost} == {LossCause.MEMORY}
        assert not record.failed


async def test_crash_loop_backs_off_and_says_so_and_heals(tmp_path):
    barred = tmp_path / "barred"
    got, record = Outcomes(), Recorder()
    async with running(
        villain(barred=str(barred)), EngineSettings(restart_backoff_s=0.05, max_restart_backoff_s=0.1), observer=record
    ) as engine:
        pid = await pid_of(engine, got)
        barred.touch()
        os.kill(pid, signal.SIGKILL)
        await record.until(lambda: len(record.lost) == 3)
        assert not engine.readiness.ready
        assert "worker 0 exited with code 9; failure 3 in a row, restarting in 0.1 s" in engine.readiness.reason
        got.submit(engine, doing(0, "patient"))
        barred.unlink()
        assert isinstance(await got.wait(0, "patient"), Output)
        assert engine.readiness.ready


async def test_second_worker_serves_while_the_first_is_down(tmp_path):
    got, record = Outcomes(), Recorder()
    flag = tmp_path / "flag"
    async with running(villain(workers=2), observer=record) as engine:
        got.submit(engine, doing(0, "slow", "wait_for", flag=str(flag)))
        await record.until(lambda: record.batches)
        os.kill(await pid_of(engine, got), signal.SIGKILL)
        await record.until(lambda: record.lost)
        assert engine.readiness.ready
        flag.touch()
        assert isinstance(await got.wait(0, "slow"), Output)


async def test_states_stay_on_their_worker_and_end_with_it():
    got, record = Outcomes(), Recorder()
    async with running(villain("Counter", workers=2), observer=record) as engine:
        for number in range(3):
            for session in ("a", "b", "c", "d"):
                got.submit(engine, doing(number, session, start=number * 160))
        await got.wait_all([(session, 2) for session in "abcd"])
        pids = {session: {got.of[session, number][0].decode()["pid"] for number in range(3)} for session in "abcd"}
        assert all(len(seen) == 1 for seen in pids.values())
        assert len(set.union(*pids.values())) == 2
        assert [got.last(2, session).decode()["pieces"] for session in "abcd"] == [3] * 4
        killed = pids["a"]
        got.submit(engine, doing(3, "a", "die", start=480))
        failed = await got.wait(3, "a")
        assert failed.code is ErrorCode.MODEL_CRASHED
        assert "the model's state for this stream was lost, processing restarts at 0.040 s" in failed.message
        for session in "abcd":
            got.submit(engine, doing(4, session, start=640))
        after = dict(zip("abcd", await got.wait_all([(session, 4) for session in "abcd"]), strict=True))
    for session, outcome in after.items():
        shared_the_worker = pids[session] == killed
        assert outcome.decode()["pieces"] == (1 if shared_the_worker else 4)
        # Who was told by an error is not told again.
        assert outcome.state_lost == (shared_the_worker and session != "a")


async def test_stop_kills_what_does_not_end():
    got, record = Outcomes(), Recorder()
    async with running(villain(), observer=record, stop_s=0.05) as engine:
        pid = await pid_of(engine, got)
        got.submit(engine, doing(0, act="hang"))
        await record.until(lambda: len(record.batches) == 2)
    assert got.last(0).code is ErrorCode.DRAINING
    await gone(pid)


async def test_worker_does_not_outlive_a_server_that_was_killed():
    script = textwrap.dedent("""
        import asyncio, os
        from streamer.inference.engine import Engine
        from streamer.models.loading import ModelSpec
        from streamer.supervision.single_process import loop_factory
        from tests.inference.harness import Outcomes
        from tests.inference.test_process import doing, pid_of

        async def main():
            engine, got = Engine(ModelSpec("tests.inference.villains:Villain")), Outcomes()
            await engine.start()
            pid = await pid_of(engine, got)
            got.submit(engine, doing(0, act="hang"))
            await asyncio.sleep(0)
            print(pid, flush=True)
            os.kill(os.getpid(), 9)

        if __name__ == "__main__":
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(main())
    """)
    result = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], stdout=subprocess.PIPE, check=False, timeout=PATIENCE_S
    )
    assert result.returncode == -signal.SIGKILL
    await gone(int(result.stdout))


def test_a_child_that_somebody_else_has_reaped_is_waited_for_until_its_end_is_known():
    class Reaped:
        """As when `start` of another one cleans up: no child is left to join, and the code comes a moment later."""

        codes = iter([None, None, -9])

        def join(self):
            pass

        @property
        def exitcode(self):
            return next(self.codes)

    assert _exit_code(Reaped()) == -9
