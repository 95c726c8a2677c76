"""A timed task behaves as the task itself, and what it did is counted."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from contextlib import suppress

import pytest

from streamer.telemetry.tasks import MAX_MEAN_LAG_S, SLOW_POLL_S, LagMean, TaskStats, watch_lag


async def test_the_result_and_each_poll_come_through() -> None:
    stats = TaskStats()

    async def work() -> str:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return "done"

    assert await asyncio.create_task(stats.task(work())) == "done"
    assert (stats.instrumented, stats.dropped, stats.polls, stats.slow_polls) == (1, 1, 3, 0)


async def test_waiting_is_idle_and_a_bare_yield_is_scheduled() -> None:
    waiting, yielding = TaskStats(), TaskStats()
    await waiting.task(asyncio.sleep(0.02))
    assert waiting.idle_s >= 0.015
    assert waiting.scheduled_s == waiting.first_poll_delay_s

    async def give_way() -> None:
        await asyncio.sleep(0)

    await yielding.task(give_way())
    assert yielding.idle_s == 0
    assert yielding.scheduled_s > yielding.first_poll_delay_s


async def test_a_poll_that_blocks_is_slow_and_delays_the_first_poll_of_others() -> None:
    blocking, patient = TaskStats(), TaskStats()

    async def block() -> None:
        time.sleep(2 * SLOW_POLL_S)  # noqa: ASYNC251

    await asyncio.gather(
        asyncio.create_task(blocking.task(block())), asyncio.create_task(patient.task(asyncio.sleep(0)))
    )
    assert blocking.slow_polls == 1
    assert blocking.poll_s >= SLOW_POLL_S
    assert patient.first_poll_delay_s >= SLOW_POLL_S


async def test_errors_and_cancellations_go_the_usual_way() -> None:
    stats = TaskStats()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await stats.task(fail())
    seen = []

    async def wait() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)  # it may still wait, and answer
        return "late"

    task = asyncio.create_task(stats.task(wait()))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "late"
    assert (seen, stats.instrumented, stats.dropped) == (["cancelled"], 2, 2)


async def test_time_outs_and_groups_work_through_it() -> None:
    stats = TaskStats()

    async def slow() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await asyncio.create_task(stats.task(slow()))

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(stats.task(asyncio.sleep(60)))
            raise LookupError

    with pytest.raises(ExceptionGroup):
        await group()
    gc.collect()
    assert stats.instrumented == stats.dropped == 2


async def test_a_task_that_ends_badly_is_dropped_without_the_collector() -> None:
    stats = TaskStats()

    async def fail() -> None:
        raise LookupError

    gc.disable()
    try:
        task = asyncio.create_task(stats.task(asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        del task
        with suppress(LookupError):
            await asyncio.create_task(stats.task(fail()))
        await asyncio.sleep(0)  # the loop still holds what woke us
        assert (stats.instrumented, stats.dropped) == (2, 2)
    finally:
        gc.enable()


async def test_a_task_that_is_never_run_is_dropped_too() -> None:
    stats = TaskStats()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        work = stats.task(asyncio.sleep(1))
        del work
        gc.collect()
    assert (stats.instrumented, stats.dropped, stats.polls) == (1, 1, 0)


async def test_a_blocked_loop_lags() -> None:
    lags: list[float] = []
    watch = asyncio.create_task(watch_lag(lags.append, interval_s=0.001))
    await asyncio.sleep(0.01)
    time.sleep(0.05)  # noqa: ASYNC251
    await asyncio.sleep(0.01)
    watch.cancel()
    assert max(lags) > 0.03
    assert min(lags) >= 0


def test_a_loop_that_is_always_late_is_full_and_one_pause_of_the_process_is_not() -> None:
    late, paused = LagMean(), LagMean()
    for _ in range(1_000):
        late.observe(2 * MAX_MEAN_LAG_S)
        paused.observe(0.0)
    paused.observe(3_600.0)
    assert late.load == 1.0
    assert 0.0 < paused.load < 0.2
