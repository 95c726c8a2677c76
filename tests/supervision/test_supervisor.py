"""Several serving processes as one: replaced, given up, counted, drained. The processes are real, and serve nothing;
tests/cli/test_workers.py has those that do."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streamer.clock import Clock, PauseAwareClock
from streamer.supervision.ipc import Ready, WorkerSettings
from streamer.supervision.restarts import RestartPolicy, Restarts
from streamer.supervision.server_process import HealthCheck
from streamer.supervision.shared_replay_store import new_table
from streamer.supervision.supervisor import ProcessPlan, Supervisor, SupervisorOutcome
from streamer.telemetry.metrics_merge import ProcessState
from streamer.testing import ManualClock

QUICK = RestartPolicy(max_consecutive=2, min_pause_s=0.01, max_pause_s=0.02)


class SummingMerger:
    """Counts are numbers in text."""

    broken = False

    def supervisor_metrics(self, states: Mapping[ProcessState, int], restarts: int) -> bytes:
        return b"0"

    def merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes:
        if self.broken:
            raise ValueError("counts of different kinds")
        return str(sum(int(count) for count in (*now, *past) if count)).encode()


class SupervisorHarness:
    """A supervisor that runs, and what it said."""

    def __init__(self, how: str, clock: Clock | None = None, **plan: Any) -> None:
        command = (sys.executable, "-m", "tests.supervision.fake_worker", how)
        plan = {"processes": 2, "drain_timeout_s": 20.0, "end_timeout_s": 20.0, "restarts": QUICK} | plan
        self.announced: list[Ready] = []
        self.whole = asyncio.Event()
        self.sum = SummingMerger()
        self.supervisor = Supervisor(
            ProcessPlan(command, WorkerSettings(b"7", {}, new_table()), **plan), self.sum, self._announce, clock
        )

    def _announce(self, ready: Ready) -> None:
        self.announced.append(ready)
        self.whole.set()

    def pids(self) -> list[int]:
        return [process.pid for process in self.supervisor.processes.values() if process.pid]


@asynccontextmanager
async def supervised(how: str, **plan: Any) -> AsyncIterator[tuple[SupervisorHarness, asyncio.Task[SupervisorOutcome]]]:
    stage = SupervisorHarness(how, **plan)
    task = asyncio.create_task(stage.supervisor.run())
    try:
        yield stage, task
    finally:
        stage.supervisor.end()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 30)


async def until(what: Any) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


async def test_it_is_announced_once_when_all_serve() -> None:
    async with supervised("serve", processes=3) as (stage, task):
        await stage.whole.wait()
        assert len(set(stage.pids())) == 3
        stage.supervisor.drain(lag=True)
        assert await task == SupervisorOutcome(0)
    assert len(stage.announced) == 1


async def test_a_killed_process_is_replaced_and_the_other_one_stays() -> None:
    async with supervised("serve") as (stage, task):
        await stage.whole.wait()
        killed, other = stage.pids()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: stage.pids()[0] != killed and stage.supervisor.states[ProcessState.SERVING] == 2)
        assert stage.pids()[1] == other
        stage.supervisor.drain(lag=False)
        assert await task == SupervisorOutcome(0)
    assert len(stage.announced) == 1


async def test_what_cannot_start_is_given_up_at_once_with_its_own_words_and_code() -> None:
    async with supervised("refuse") as (stage, task):
        assert await task == SupervisorOutcome(2, "there is no such model")
    assert not stage.announced


async def test_what_dies_before_it_serves_is_given_up_at_once() -> None:
    async with supervised("die", processes=1) as (_, task):
        assert await task == SupervisorOutcome(1, "server process 0 was killed by SIGKILL")


async def test_a_crash_loop_is_given_up_after_its_last_pause() -> None:
    async with supervised("crash", processes=1) as (stage, task):
        assert await task == SupervisorOutcome(1, "server process 0 ended with exit code 3, 3 times in a row")
    assert len(stage.announced) == 1


async def test_a_process_that_hangs_is_killed_and_replaced() -> None:
    # One: of two, the first may be killed before the other serves, and a server never whole is not tried again.
    async with supervised("hang", processes=1, health_check=HealthCheck(interval_s=0.05, timeout_s=0.2)) as (
        stage,
        task,
    ):
        await stage.whole.wait()
        outcome = await task
        assert outcome.exit_code == 1
        assert "was killed by SIGKILL, 3 times in a row" in str(outcome.problem)


async def test_a_process_that_paused_together_with_its_supervisor_is_not_killed() -> None:
    time = ManualClock()
    clock = PauseAwareClock(time)
    clock.start()
    health_check = HealthCheck(interval_s=0.01, timeout_s=30.0)
    async with supervised("serve", clock=clock, health_check=health_check, processes=1) as (stage, _):
        await stage.whole.wait()
        [process] = stage.supervisor.processes.values()
        [pid] = stage.pids()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: process.is_awaiting_reply and time.timers == 2)  # the other one looks for pauses
        time.jump(62.0)
        time.advance(health_check.timeout_s - 1)
        os.kill(pid, signal.SIGCONT)
        await until(lambda: not process.is_awaiting_reply)
        assert stage.pids() == [pid]

        os.kill(pid, signal.SIGSTOP)  # and one that stays silent is
        await until(lambda: process.is_awaiting_reply and time.timers == 2)
        time.advance(health_check.timeout_s + 1)
        await until(lambda: stage.pids() not in ([], [pid]))


async def test_a_process_that_does_not_drain_in_time_is_killed_and_that_is_exit_1() -> None:
    async with supervised("stay", drain_timeout_s=0.3) as (stage, task):
        await stage.whole.wait()
        stage.supervisor.drain(lag=False)
        assert await task == SupervisorOutcome(1)


async def test_a_process_that_ends_badly_after_its_drain_is_exit_1() -> None:
    async with supervised("fail to drain") as (stage, task):
        await stage.whole.wait()
        stage.supervisor.drain(lag=False)
        assert await task == SupervisorOutcome(1)


async def test_who_is_told_to_end_while_draining_ends_at_once() -> None:
    async with supervised("stay") as (stage, task):
        await stage.whole.wait()
        stage.supervisor.drain(lag=True)
        stage.supervisor.end()
        assert await task == SupervisorOutcome(0)


async def test_a_process_that_is_just_being_started_hears_of_the_end_too() -> None:
    async with supervised("serve") as (stage, task):
        await asyncio.sleep(0)
        stage.supervisor.drain(lag=False)
        assert await task == SupervisorOutcome(0)
    assert not stage.announced


async def test_the_counts_of_the_dead_stay_in_the_sum() -> None:
    async with supervised("gather", health_check=HealthCheck(interval_s=0.02)) as (stage, _):
        processes = stage.supervisor.processes
        await until(lambda: all(process.metrics for process in processes.values()) and len(processes) == 2)
        first = processes[0]
        await until(lambda: first.failure == "14")
        os.kill(stage.pids()[0], signal.SIGKILL)
        await until(lambda: processes[0] is not first and processes[0].failure == "21")


async def test_counts_that_cannot_be_merged_are_told_as_none_and_cost_no_counts_of_before() -> None:
    async with supervised("gather", health_check=HealthCheck(interval_s=0.02)) as (stage, _):
        processes = stage.supervisor.processes
        await until(lambda: len(processes) == 2 and all(process.failure == "14" for process in processes.values()))
        first, second = processes.values()
        os.kill(stage.pids()[0], signal.SIGKILL)
        await until(lambda: processes[0] is not first and processes[0].failure == second.failure == "21")
        stage.sum.broken = True
        await until(lambda: second.failure == "nothing")
        os.kill(stage.pids()[1], signal.SIGKILL)
        await until(lambda: processes[1] is not second and processes[1].failure == "nothing")
        stage.sum.broken = False
        await until(lambda: processes[0].failure == processes[1].failure == "21")


def test_a_pause_doubles_up_to_its_bound_and_a_stable_time_ends_the_row() -> None:
    restarts = Restarts(RestartPolicy(max_consecutive=4, stable_s=60, min_pause_s=1, max_pause_s=3))
    assert [restarts.next_pause(0), restarts.next_pause(5), restarts.next_pause(59)] == [1, 2, 3]
    assert [restarts.next_pause(lived_s) for lived_s in (60, 0, 0, 0, 0)] == [1, 2, 3, 3, None]


@pytest.mark.parametrize("served_s", [0.0, 59.9])
def test_one_death_too_many_in_a_row_is_the_end(served_s: float) -> None:
    restarts = Restarts(RestartPolicy(max_consecutive=1))
    assert restarts.next_pause(served_s) is not None
    assert restarts.next_pause(served_s) is None
