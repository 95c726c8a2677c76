"""Timing of an event loop's tasks, like tokio-metrics for tokio. See docs/how/task-metrics.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from types import coroutine
from typing import Any, TypeVar

SLOW_POLL_S = 0.010
"""Duration in seconds above which a poll is slow: it blocks everything else on the loop."""

LAG_WEIGHT = 0.01
"""Weight of the latest of ten measurements per second in the mean lag."""
MAX_MEAN_LAG_S = 0.1
"""Mean lag of the event loop that counts as full load, in seconds."""
_MAX_SAMPLE_S = 1.0
"""Lag beyond which one measurement counts no more: the process was stopped, not busy."""

T = TypeVar("T")


class TaskStats:
    """Sums over all tasks of one subsystem, in seconds. Written by one thread."""

    __slots__ = (
        "dropped",
        "first_poll_delay_s",
        "idle_s",
        "instrumented",
        "poll_s",
        "polls",
        "scheduled_s",
        "slow_polls",
    )

    def __init__(self) -> None:
        self.instrumented = 0
        """Tasks started."""
        self.dropped = 0
        """Tasks finished: returned, raised, cancelled, or never run."""
        self.polls = 0
        """Polls: times that a task was resumed."""
        self.slow_polls = 0
        self.poll_s = 0.0
        self.first_poll_delay_s = 0.0
        """Time from the creation of tasks to their first poll."""
        self.idle_s = 0.0
        """Time waiting for a future, and then for the loop (asyncio does not report when a future was done)."""
        self.scheduled_s = 0.0
        """Time ready but not running: before the first poll, and after a bare yield (`sleep(0)`)."""

    def task(self, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return the same coroutine with timing, for `create_task` or `await`."""
        return _count(work, self, _TaskLifetime(self, work), perf_counter())


class _TaskLifetime:
    """Counts the end of a coroutine, also of one that is cancelled before its start and has no `finally`."""

    __slots__ = ("_stats", "_work")

    def __init__(self, stats: TaskStats, work: Coroutine[Any, Any, Any]) -> None:
        self._stats = stats
        self._work = work
        stats.instrumented += 1

    def __del__(self) -> None:
        self._stats.dropped += 1
        self._work.close()


async def _count(
    work: Coroutine[Any, Any, T],
    stats: TaskStats,
    life: _TaskLifetime,  # noqa: ARG001 (it ends with this frame)
    made: float,
) -> T:
    """Return `work` as a coroutine, which `create_task` requires."""
    return await _time(work, stats, made)


@coroutine
def _time(work: Coroutine[Any, Any, T], stats: TaskStats, paused: float) -> Generator[Any, Any, T]:
    """Run `work` and time each step. A generator, because its locals are twice as fast as an object's attributes."""
    step: Callable[[Any], Any] = work.send
    value: Any = None
    started_at = perf_counter()
    stats.first_poll_delay_s += started_at - paused
    ready = True
    while True:
        if ready:
            stats.scheduled_s += started_at - paused
        else:
            stats.idle_s += started_at - paused
        try:
            waits_for = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            value = None  # an error references this frame; a reference back would be a cycle for the collector
            paused = perf_counter()
            took_s = paused - started_at
            stats.polls += 1
            stats.poll_s += took_s
            if took_s > SLOW_POLL_S:
                stats.slow_polls += 1
        ready = waits_for is None
        try:
            value = yield waits_for
            step = work.send
        except BaseException as error:  # noqa: BLE001 (a cancellation, or the end, of the work itself)
            step, value = work.throw, error
        started_at = perf_counter()


async def watch_lag(observe: Callable[[float], None], interval_s: float = 0.1) -> None:
    """Measure forever by how much a timer of the loop is late."""
    while True:
        started_at = perf_counter()
        await asyncio.sleep(interval_s)
        observe(max(0.0, perf_counter() - started_at - interval_s))


class LagMean:
    """Running mean of the event loop's lag over the last ten seconds or so."""

    def __init__(self) -> None:
        self.mean_s = 0.0

    def observe(self, lag_s: float) -> None:
        """Add one measurement of `watch_lag`."""
        self.mean_s += LAG_WEIGHT * (min(lag_s, _MAX_SAMPLE_S) - self.mean_s)

    @property
    def load(self) -> float:
        """Return the mean as a share of `MAX_MEAN_LAG_S`, at most 1."""
        return min(1.0, self.mean_s / MAX_MEAN_LAG_S)
