"""The scheduling policy of the engine: which jobs run next, and together. Pure: plain values, no clock or worker."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec

from streamer.session.actions import JobKind

StreamKey = tuple[str, int, int]
"""(session id, stream, channel): key of a model's state."""

JobToken = int

MIN_COST_S = 0.1
"""Minimum cost of a job in seconds of audio: a call has a cost even for short audio."""


class QueuedJob(msgspec.Struct, frozen=True):
    """A queued job. `queued_at`: monotonic seconds of its arrival. `seconds`: length of its audio.

    `runs_alone`: it was in a batch that failed as a whole, and is retried by itself. `needs_own_worker`: it was on a
    worker that was lost with several calls, and is retried on one that runs nothing else.
    """

    token: JobToken
    stream_key: StreamKey
    kind: JobKind
    segment_id: int
    seconds: float
    queued_at: float
    runs_alone: bool = False
    needs_own_worker: bool = False

    @property
    def session_id(self) -> str:
        return self.stream_key[0]


class DropCause(StrEnum):
    """Why an interim was dropped."""

    OVERTAKEN = "overtaken"
    """A newer interim, or its final, arrived."""
    OVERLOAD = "overload"
    """The queue exceeded its limits."""
    CRASHED = "crashed"
    """Its worker died; interims are not retried."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits. `size`, `seconds`: of one batch. `wait_s`: how long a job may wait for others while a worker is idle.

    `serial`: one job of a channel's stream at a time, in order (stateful models). `max_items`, `max_seconds`: of the
    whole queue. `concurrent`: of all overlapping calls of a worker (0: one call at a time).
    """

    size: int = 1
    seconds: float = 120.0
    wait_s: float = 0.005
    serial: bool = False
    max_items: int = 1_000
    max_seconds: float = 600.0
    concurrent: int = 0


class Batch(msgspec.Struct, frozen=True):
    """Jobs to run together on a worker."""

    worker: int
    tokens: tuple[JobToken, ...]


class BatchPlan(msgspec.Struct, frozen=True):
    """Batches to start now, and when to plan again (None: at the next change)."""

    batches: tuple[Batch, ...]
    next_wakeup: float | None


class _Ranked(NamedTuple):
    """A job with its order of service: fair share first, then age."""

    tag: float
    queued_at: float
    token: JobToken
    item: QueuedJob


class _FairQueue:
    """Jobs in the order of start-time fair queueing (Goyal, Vin and Cheng, 1996), with seconds of audio as cost.

    The tag of a job is the work that its session has requested before, counted from the work being served at its
    arrival. A session that floods delays only its own jobs.
    """

    def __init__(self) -> None:
        self._virtual_time = 0.0
        self._finish_tags: dict[str, float] = {}
        self.ranked: list[_Ranked] = []

    def add(self, item: QueuedJob) -> _Ranked:
        if item.runs_alone:  # a retry does not wait again
            tag = -1.0
        else:
            session_id = item.session_id
            tag = max(self._virtual_time, self._finish_tags.get(session_id, 0.0))
            self._finish_tags[session_id] = tag + max(item.seconds, MIN_COST_S)
        ranked = _Ranked(tag, item.queued_at, item.token, item)
        insort(self.ranked, ranked)
        return ranked

    def remove(self, ranked: _Ranked, *, served: bool) -> None:
        del self.ranked[bisect_left(self.ranked, ranked)]
        if served:
            self._virtual_time = max(self._virtual_time, ranked.tag)

    def forget(self, session_id: str) -> None:
        self._finish_tags.pop(session_id, None)


class Scheduler:
    """Bounded queue of all jobs, in their order of service.

    Finals and pieces come before interims. Within each class, sessions get fair shares; otherwise the oldest job is
    first.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._urgent = _FairQueue()
        self._interims = _FairQueue()
        self._queued: dict[JobToken, _Ranked] = {}
        self._interim_of: dict[StreamKey, JobToken] = {}
        self._running: set[StreamKey] = set()
        self._sessions: dict[str, int] = {}  # queued jobs by session
        self.seconds = 0.0
        """Seconds of queued audio."""
        self.required_seconds = 0.0
        """Seconds of queued audio without interims, which cannot be shed."""

    def __len__(self) -> int:
        return len(self._queued)

    @property
    def required_count(self) -> int:
        """Number of queued jobs that are not interims."""
        return len(self._urgent.ranked)

    @property
    def session_count(self) -> int:
        """Number of sessions with queued jobs."""
        return len(self._sessions)

    def add(self, item: QueuedJob) -> list[tuple[JobToken, DropCause]]:
        """Queue `item`.

        Return the interims that are dropped for it: superseded, or beyond the limits (perhaps itself).
        """
        shed: list[tuple[JobToken, DropCause]] = []
        earlier = self._interim_of.get(item.stream_key)
        if earlier is not None and self._supersedes(item, earlier):
            self.remove(earlier)
            shed.append((earlier, DropCause.OVERTAKEN))
        self._queued[item.token] = self._queue_of(item).add(item)
        session_id = item.session_id
        self._sessions[session_id] = self._sessions.get(session_id, 0) + 1
        self.seconds += item.seconds
        if item.kind is JobKind.INTERIM:
            self._interim_of[item.stream_key] = item.token
        else:
            self.required_seconds += item.seconds
        while self._is_over_limit and self._interims.ranked:
            last = self._interims.ranked[-1].token
            self.remove(last)
            shed.append((last, DropCause.OVERLOAD))
        return shed

    def remove(self, token: JobToken) -> bool:
        """Remove a queued job. Return False if it is not queued."""
        return self._dequeue(token, served=False) is not None

    def forget(self, session_id: str) -> None:
        """Forget the share of service of a session that has ended."""
        self._urgent.forget(session_id)
        self._interims.forget(session_id)

    def plan(
        self,
        idle: Sequence[int],
        now: float,
        *,
        expecting: bool,
        assignments: Mapping[StreamKey, int],
        room: Mapping[int, int] | None = None,
    ) -> BatchPlan:
        """Return the batches to start now on the `idle` workers, in this order of preference. Changes nothing.

        `expecting`: more jobs may arrive soon, so waiting may help. `assignments`: the worker that holds the state;
        others may run anywhere. `room`: number of items that each worker can take, if its calls overlap.
        """
        batches: list[Batch] = []
        chosen: set[JobToken] = set()
        busy = set(self._running)
        look_at: float | None = None
        for worker in idle:
            free = None if room is None else room[worker]
            picked, since, full = self._select_batch(worker, chosen, busy, assignments, free)
            if not picked:
                continue
            due = now if full or not expecting else since + self._limits.wait_s
            if now >= due:
                batches.append(Batch(worker, tuple([item.token for item in picked])))
                chosen.update(batches[-1].tokens)
                if self._limits.serial:
                    busy.update(item.stream_key for item in picked)
            else:
                look_at = due if look_at is None else min(look_at, due)
        return BatchPlan(tuple(batches), look_at)

    def start(self, batch: Batch) -> list[QueuedJob]:
        """Remove the jobs of a batch that starts from the queue; return them."""
        items = []
        for token in batch.tokens:
            item = self._dequeue(token, served=True)
            if item is None:
                raise KeyError(f"job {token} is not queued")
            items.append(item)
            if self._limits.serial:
                self._running.add(item.stream_key)
        return items

    def on_finished(self, stream_keys: Iterable[StreamKey]) -> None:
        """Allow the next jobs of these streams: their running jobs have ended."""
        self._running.difference_update(stream_keys)

    @property
    def _is_over_limit(self) -> bool:
        return len(self._queued) > self._limits.max_items or self.seconds > self._limits.max_seconds

    def _supersedes(self, item: QueuedJob, interim: JobToken) -> bool:
        if item.kind is JobKind.FINAL:
            return self._queued[interim].item.segment_id <= item.segment_id
        return item.kind is JobKind.INTERIM

    def _queue_of(self, item: QueuedJob) -> _FairQueue:
        return self._interims if item.kind is JobKind.INTERIM else self._urgent

    def _dequeue(self, token: JobToken, *, served: bool) -> QueuedJob | None:
        ranked = self._queued.pop(token, None)
        if ranked is None:
            return None
        item = ranked.item
        self._queue_of(item).remove(ranked, served=served)
        session_id = item.session_id
        self._sessions[session_id] -= 1
        if not self._sessions[session_id]:
            del self._sessions[session_id]
        self.seconds = self.seconds - item.seconds if self._queued else 0.0  # no accumulated rounding error
        if item.kind is not JobKind.INTERIM:
            self.required_seconds = self.required_seconds - item.seconds if self.required_count else 0.0
        if self._interim_of.get(item.stream_key) == token:
            del self._interim_of[item.stream_key]
        return item

    def _select_batch(
        self,
        worker: int,
        chosen: set[JobToken],
        busy: set[StreamKey],
        assignments: Mapping[StreamKey, int],
        free: int | None,
    ) -> tuple[list[QueuedJob], float, bool]:
        """Select a batch for a worker. `free`: number of items that it can take; None: any.

        Returns the batch, the arrival of the oldest job that waits for this worker, and whether the batch is full.
        """
        picked: list[QueuedJob] = []
        since = math.inf
        seconds = 0.0
        stream_keys: set[StreamKey] = set()
        size = self._limits.size if free is None else min(self._limits.size, free)
        for queue in (self._urgent, self._interims):
            for ranked in queue.ranked:
                item = ranked.item
                if (
                    ranked.token in chosen
                    or item.stream_key in busy
                    or assignments.get(item.stream_key, worker) != worker
                ):
                    continue
                if item.needs_own_worker and free != self._limits.concurrent:
                    return picked, since, True  # the worker takes nothing else until it is empty
                since = min(since, item.queued_at)
                if item.stream_key in stream_keys:
                    continue
                if picked and (item.runs_alone or seconds + item.seconds > self._limits.seconds):
                    return picked, since, True
                picked.append(item)
                seconds += item.seconds
                if item.runs_alone or len(picked) == size:
                    return picked, since, True
                if self._limits.serial:
                    stream_keys.add(item.stream_key)
        return picked, since, False
