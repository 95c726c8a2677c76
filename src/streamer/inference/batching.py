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

Lane = tuple[str, int, int]
"""(session id, stream, channel): key of a model's state."""

Ticket = int

MIN_COST_S = 0.1
"""Minimum cost of a job in seconds of audio: a call has a cost even for short audio."""


class Waiting(msgspec.Struct, frozen=True):
    """A queued job. `since`: monotonic seconds of its arrival. `seconds`: length of its audio.

    `alone`: it was in a batch that failed as a whole, and is retried by itself.
    """

    ticket: Ticket
    lane: Lane
    kind: JobKind
    segment_id: int
    seconds: float
    since: float
    alone: bool = False

    @property
    def session_id(self) -> str:
        return self.lane[0]


class Dropped(StrEnum):
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

    `serial`: one job of a lane at a time, in order (stateful models). `max_items`, `max_seconds`: of the whole queue.
    """

    size: int = 1
    seconds: float = 120.0
    wait_s: float = 0.005
    serial: bool = False
    max_items: int = 1_000
    max_seconds: float = 600.0


class Batch(msgspec.Struct, frozen=True):
    """Jobs to run together on a worker."""

    worker: int
    tickets: tuple[Ticket, ...]


class Plan(msgspec.Struct, frozen=True):
    """Batches to start now, and when to plan again (None: at the next change)."""

    batches: tuple[Batch, ...]
    look_at: float | None


class _Ranked(NamedTuple):
    """A job with its order of service: fair share first, then age."""

    tag: float
    since: float
    ticket: Ticket
    item: Waiting


class _FairQueue:
    """Jobs in the order of start-time fair queueing (Goyal, Vin and Cheng, 1996), with seconds of audio as cost.

    The tag of a job is the work that its session has requested before, counted from the work being served at its
    arrival. A session that floods delays only its own jobs.
    """

    def __init__(self) -> None:
        self._served = 0.0
        self._asked: dict[str, float] = {}
        self.ranked: list[_Ranked] = []

    def add(self, item: Waiting) -> _Ranked:
        if item.alone:  # a retry does not wait again
            tag = -1.0
        else:
            session_id = item.session_id
            tag = max(self._served, self._asked.get(session_id, 0.0))
            self._asked[session_id] = tag + max(item.seconds, MIN_COST_S)
        ranked = _Ranked(tag, item.since, item.ticket, item)
        insort(self.ranked, ranked)
        return ranked

    def remove(self, ranked: _Ranked, *, served: bool) -> None:
        del self.ranked[bisect_left(self.ranked, ranked)]
        if served:
            self._served = max(self._served, ranked.tag)

    def forget(self, session_id: str) -> None:
        self._asked.pop(session_id, None)


class Backlog:
    """Bounded queue of all jobs, in their order of service.

    Finals and pieces come before interims. Within each class, sessions get fair shares; otherwise the oldest job is
    first.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._urgent = _FairQueue()
        self._interims = _FairQueue()
        self._places: dict[Ticket, _Ranked] = {}
        self._interim_of: dict[Lane, Ticket] = {}
        self._running: set[Lane] = set()
        self._sessions: dict[str, int] = {}  # queued jobs by session
        self.seconds = 0.0
        """Seconds of queued audio."""
        self.owed_seconds = 0.0
        """Seconds of queued audio without interims, which cannot be shed."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def owed(self) -> int:
        """Number of queued jobs that are not interims."""
        return len(self._urgent.ranked)

    @property
    def sessions(self) -> int:
        """Number of sessions with queued jobs."""
        return len(self._sessions)

    def add(self, item: Waiting) -> list[tuple[Ticket, Dropped]]:
        """Queue `item`.

        Return the interims that are dropped for it: superseded, or beyond the limits (perhaps itself).
        """
        shed: list[tuple[Ticket, Dropped]] = []
        earlier = self._interim_of.get(item.lane)
        if earlier is not None and self._overtakes(item, earlier):
            self.remove(earlier)
            shed.append((earlier, Dropped.OVERTAKEN))
        self._places[item.ticket] = self._queue_of(item).add(item)
        session_id = item.session_id
        self._sessions[session_id] = self._sessions.get(session_id, 0) + 1
        self.seconds += item.seconds
        if item.kind is JobKind.INTERIM:
            self._interim_of[item.lane] = item.ticket
        else:
            self.owed_seconds += item.seconds
        while self._over and self._interims.ranked:
            last = self._interims.ranked[-1].ticket
            self.remove(last)
            shed.append((last, Dropped.OVERLOAD))
        return shed

    def remove(self, ticket: Ticket) -> bool:
        """Remove a queued job. Return False if it is not queued."""
        return self._take(ticket, served=False) is not None

    def forget(self, session_id: str) -> None:
        """Forget the share of service of a session that has ended."""
        self._urgent.forget(session_id)
        self._interims.forget(session_id)

    def plan(self, idle: Sequence[int], now: float, *, expecting: bool, homes: Mapping[Lane, int]) -> Plan:
        """Return the batches to start now on the `idle` workers, in this order of preference. Changes nothing.

        `expecting`: more jobs may arrive soon, so waiting may help. `homes`: the worker that holds a lane's state;
        other lanes may run anywhere.
        """
        batches: list[Batch] = []
        chosen: set[Ticket] = set()
        busy = set(self._running)
        look_at: float | None = None
        for worker in idle:
            picked, since, full = self._pick(worker, chosen, busy, homes)
            if not picked:
                continue
            due = now if full or not expecting else since + self._limits.wait_s
            if now >= due:
                batches.append(Batch(worker, tuple([item.ticket for item in picked])))
                chosen.update(batches[-1].tickets)
                if self._limits.serial:
                    busy.update(item.lane for item in picked)
            else:
                look_at = due if look_at is None else min(look_at, due)
        return Plan(tuple(batches), look_at)

    def start(self, batch: Batch) -> list[Waiting]:
        """Remove the jobs of a batch that starts from the queue; return them."""
        items = []
        for ticket in batch.tickets:
            item = self._take(ticket, served=True)
            if item is None:
                raise KeyError(f"ticket {ticket} is not queued")
            items.append(item)
            if self._limits.serial:
                self._running.add(item.lane)
        return items

    def done(self, lanes: Iterable[Lane]) -> None:
        """Allow the next jobs of these lanes: their running jobs have ended."""
        self._running.difference_update(lanes)

    @property
    def _over(self) -> bool:
        return len(self._places) > self._limits.max_items or self.seconds > self._limits.max_seconds

    def _overtakes(self, item: Waiting, interim: Ticket) -> bool:
        if item.kind is JobKind.FINAL:
            return self._places[interim].item.segment_id <= item.segment_id
        return item.kind is JobKind.INTERIM

    def _queue_of(self, item: Waiting) -> _FairQueue:
        return self._interims if item.kind is JobKind.INTERIM else self._urgent

    def _take(self, ticket: Ticket, *, served: bool) -> Waiting | None:
        ranked = self._places.pop(ticket, None)
        if ranked is None:
            return None
        item = ranked.item
        self._queue_of(item).remove(ranked, served=served)
        session_id = item.session_id
        self._sessions[session_id] -= 1
        if not self._sessions[session_id]:
            del self._sessions[session_id]
        self.seconds = self.seconds - item.seconds if self._places else 0.0  # no accumulated rounding error
        if item.kind is not JobKind.INTERIM:
            self.owed_seconds = self.owed_seconds - item.seconds if self.owed else 0.0
        if self._interim_of.get(item.lane) == ticket:
            del self._interim_of[item.lane]
        return item

    def _pick(
        self, worker: int, chosen: set[Ticket], busy: set[Lane], homes: Mapping[Lane, int]
    ) -> tuple[list[Waiting], float, bool]:
        """Select a batch for a worker.

        Returns the batch, the arrival of the oldest job that waits for this worker, and whether the batch is full.
        """
        picked: list[Waiting] = []
        since = math.inf
        seconds = 0.0
        lanes: set[Lane] = set()
        for queue in (self._urgent, self._interims):
            for ranked in queue.ranked:
                item = ranked.item
                if ranked.ticket in chosen or item.lane in busy or homes.get(item.lane, worker) != worker:
                    continue
                since = min(since, item.since)
                if item.lane in lanes:
                    continue
                if picked and (item.alone or seconds + item.seconds > self._limits.seconds):
                    return picked, since, True
                picked.append(item)
                seconds += item.seconds
                if item.alone or len(picked) == self._limits.size:
                    return picked, since, True
                if self._limits.serial:
                    lanes.add(item.lane)
        return picked, since, False
