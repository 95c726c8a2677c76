"""The number of workers between a least and a most: more when jobs wait, fewer when workers are idle."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamer.clock import Clock, Timer
from streamer.inference.settings import EngineSettings

INTERVAL_S = 1.0
"""Time in seconds between two looks at the load."""
MAX_BUSY = 0.7
"""Share of the workers' time that may be busy after one of them is let go."""
MAX_GROWTH = 2.0
"""Factor by which the number of workers grows at most in one step."""
_BUSY_WEIGHT = 0.1
"""Weight of the latest look in the mean of busy workers, which is one over some ten seconds."""
_QUIET = 0.25
"""Part of `scale_up_wait_s` above which no worker is let go."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """Load of a model. `owed_s`: seconds of work of one worker that wait. `busy`: workers that run a call.

    If calls overlap, each worker counts by its part in use.
    """

    owed_s: float
    busy: float


@dataclass(frozen=True, slots=True)
class Work:
    """Work of an engine. `owed_s`: seconds of work of one worker that wait. `states`: number of states on a worker."""

    owed_s: float
    states: Callable[[int], int]


class ScalePolicy:
    """Decides on the number of workers. Pure: times are arguments, in seconds.

    A worker that is loading counts, so that its queue is not answered with another one. Between the wait above which
    workers are added and the load below which one is let go, nothing changes.
    """

    def __init__(self, low: int, high: int, settings: EngineSettings) -> None:
        self._low = low
        self._high = high
        self._settings = settings
        self._busy = 0.0
        self._waiting_since: float | None = None
        self._quiet_since: float | None = None

    def decide(self, workers: int, load: WorkerLoad, now: float) -> int:
        """Return the number of workers that there should be, of `workers` that there are."""
        settings = self._settings
        self._busy += _BUSY_WEIGHT * (load.busy - self._busy)
        wait_s = load.owed_s / workers
        if wait_s > settings.scale_up_wait_s:
            self._quiet_since = None
            if self._waiting_since is None:
                self._waiting_since = now
            if now - self._waiting_since < settings.scale_up_after_s:
                return workers
            self._waiting_since = now
            needed = math.ceil(load.owed_s / settings.scale_up_wait_s)
            return min(self._high, max(workers + 1, min(needed, math.floor(workers * MAX_GROWTH))))
        self._waiting_since = None
        fewer_suffice = self._busy <= MAX_BUSY * (workers - 1)
        if workers <= self._low or not fewer_suffice or wait_s > _QUIET * settings.scale_up_wait_s:
            self._quiet_since = None
            return workers
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < settings.scale_down_after_s:
            return workers
        self._quiet_since = now
        return workers - 1


class Scalable(Protocol):
    """The workers that a scaler drives."""

    @property
    def active(self) -> int:
        """Number of workers that are not to be let go, loading ones included."""
        ...

    def scale(self, workers: int) -> None:
        """Start workers, or let some go, until there are this many."""
        ...

    def park(self) -> None:
        """Stop the workers that are let go and have nothing left to do."""
        ...


class Scaler:
    """Looks at the load at intervals, and changes the number of workers."""

    def __init__(self, policy: ScalePolicy, pool: Scalable, load: Callable[[], WorkerLoad], clock: Clock) -> None:
        self._policy = policy
        self._pool = pool
        self._load = load
        self._clock = clock
        self._timer: Timer | None = None

    def start(self) -> None:
        """Look at the load from now on."""
        self._timer = self._clock.call_at(self._clock.now() + INTERVAL_S, self._look)

    def stop(self) -> None:
        """Change nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        workers = self._pool.active
        count = self._policy.decide(workers, self._load(), self._clock.now())
        if count != workers:
            self._pool.scale(count)
        self._pool.park()
        self.start()
