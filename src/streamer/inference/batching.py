"""Which jobs wait, which run next and together: the engine's policy, over plain values, without clock or worker."""

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
"""(session id, stream, channel): what a model's state belongs to."""

Ticket = int

MIN_COST_S = 0.1
"""What the shortest job counts for in a session's share: a call costs something however little audio it has."""


class Waiting(msgspec.Struct, frozen=True):
    """A job as the policy sees it. `since`: when it came, monotonic seconds. `seconds`: length of its audio.

    `alone`: it was in a batch that failed as a whole and runs by itself now, so that it cannot harm others again.
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
    """Why an interim never ran."""

    OVERTAKEN = "overtaken"
    """By a newer one, or by its final."""
    OVERLOAD = "overload"
    """More waits than the bounds allow."""
    CRASHED = "crashed"
    """Its worker died; interims are not tried again."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """`size`, `seconds`: of one batch. `wait_s`: how long an item may wait for company while a worker idles.

    `serial`: one job of a lane at a time, in order (stateful models). `max_items`, `max_seconds`: of all that waits.
    """

    size: int = 1
    seconds: float = 120.0
    wait_s: float = 0.005
    serial: bool = False
    max_items: int = 1_000
    max_seconds: float = 600.0


class Batch(msgspec.Struct, frozen=True):
    """Run these together on this worker, now."""

    worker: int
    tickets: tuple[Ticket, ...]


class Plan(msgspec.Struct, frozen=True):
    """What to start now, and when to look again though nothing happens (None: when something happens)."""

    batches: tuple[Batch, ...]
    look_at: float | None


class _Ranked(NamedTuple):
    """An item at its place in the order of service: fair share first, then age."""

    tag: float
    since: float
    ticket: Ticket
    item: Waiting


class _FairQueue:
    """Items in the order of start-time fair queueing (Goyal, Vin and Cheng, 1996), the cost being seconds of audio.

    An item's tag is the work its session has asked for before it, counted from the work being served when it came. A
    session that floods pushes its own items back, and nobody else's.
    """

    def __init__(self) -> None:
        self._served = 0.0
        self._asked: dict[str, float] = {}
        self.ranked: list[_Ranked] = []

    def add(self, item: Waiting) -> _Ranked:
        if item.alone:  # tried before: it has had its turn to wait
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
    """All jobs that wait for a worker, bounded, in the order in which they are to be served.

    Finals and pieces come before interims; within each, sessions share fairly; among equals the oldest comes first.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._urgent = _FairQueue()
        self._interims = _FairQueue()
        self._places: dict[Ticket, _Ranked] = {}
        self._interim_of: dict[Lane, Ticket] = {}
        self._running: set[Lane] = set()
        self._sessions: dict[str, int] = {}  # how many of each wait
        self.seconds = 0.0
        """Audio in all that waits."""
        self.owed_seconds = 0.0
        """The same without interims: what cannot be shed."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def owed(self) -> int:
        """How many wait that are not interims."""
        return len(self._urgent.ranked)

    @property
    def sessions(self) -> int:
        """How many sessions have something waiting."""
        return len(self._sessions)

    def add(self, item: Waiting) -> list[tuple[Ticket, Dropped]]:
        """Queue `item`. Returns the interims that will not run: overtaken, or past the bounds (perhaps itself)."""
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
        """It need not run. False where it does not wait."""
        return self._take(ticket, served=False) is not None

    def forget(self, session_id: str) -> None:
        """The session is over: its share of service is of no interest any more."""
        self._urgent.forget(session_id)
        self._interims.forget(session_id)

    def plan(self, idle: Sequence[int], now: float, *, expecting: bool, homes: Mapping[Lane, int]) -> Plan:
        """What should start now on the `idle` workers (in this order of preference). Changes nothing.

        `expecting`: others may come soon, so that waiting for company may gain something. `homes`: the worker that
        holds a lane's state; a lane that is not in it may run anywhere.
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
        """The batch starts: its items wait no longer."""
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
        """Jobs of these lanes have ended: the next of each may run."""
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
        self.seconds = self.seconds - item.seconds if self._places else 0.0  # no drift of rounding
        if item.kind is not JobKind.INTERIM:
            self.owed_seconds = self.owed_seconds - item.seconds if self.owed else 0.0
        if self._interim_of.get(item.lane) == ticket:
            del self._interim_of[item.lane]
        return item

    def _pick(
        self, worker: int, chosen: set[Ticket], busy: set[Lane], homes: Mapping[Lane, int]
    ) -> tuple[list[Waiting], float, bool]:
        """The batch this worker would run, since when somebody waits for it (who can only run after one of it, too),
        and whether nothing could join it any more."""
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
