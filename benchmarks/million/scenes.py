"""The scenes of the plan: a cell or a region lost, everybody back at once, and a day with autoscaling."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.million.plan import Plan
from benchmarks.million.world import Cell, Clients, World

DAY_S = 86_400.0
SAMPLE_S = 300.0
STEPS = 150
"""Points of the curve of a return."""
QUEUE_S = 3.0
"""Bound of a queue of handshakes: less than the patience of clients."""
COSTS_MS = (1.7, 5.0, 10.0, 20.0, 40.0)
KNOWN_AFTER_S = 15.0
"""Three failed health checks, five seconds apart."""


@dataclass(frozen=True, slots=True)
class Return:
    """How the clients of a loss came back. Seconds since the loss; shares of those that were lost."""

    name: str
    headroom: float
    spread_s: float
    queue_s: float | None
    """Longest queue of handshakes in seconds; None: not bounded."""
    handshake_ms: float
    half_s: float | None
    most_s: float | None
    """When 99 % were back; None if they never were."""
    back: float
    served: float
    """Live streams at the end of the scene, as a share of the peak's."""
    attempts: float
    """Attempts for each stream that was wanted, the first one included."""
    wasted: float
    """Share of the handshakes that were served for nobody."""
    curve: tuple[tuple[float, float], ...]
    """Times, and the share that is back."""


def cells_of(plan: Plan, quantum: int) -> list[Cell]:
    """Return the cells of a plan; slots and rates count cohorts of `quantum` streams."""
    processes = plan.processes // plan.cells
    slots = processes * plan.streams_per_process // quantum
    rate = processes * plan.handshakes_per_s / quantum
    return [Cell(index % plan.regions, slots, rate) for index in range(plan.cells)]


def loss(
    name: str,
    plan: Plan,
    clients: Clients,
    *,
    lost_cells: int,
    quantum: int,
    seed: int,
    minutes: float = 5.0,
    queue_s: float | None = None,
) -> Return:
    """Lose cells of one region at the peak, or cut all streams if `lost_cells` is 0."""
    cells = cells_of(plan, quantum)
    for cell in cells:
        cell.queue_s = math.inf if queue_s is None else queue_s
    world = World(cells, clients, seed, KNOWN_AFTER_S)
    world.fill(plan.streams // quantum)
    rate = plan.streams / quantum / clients.mean_stream_s
    until = 60.0 * minutes
    world.arrive(lambda _: rate, until)
    if lost_cells:
        region = [cell for cell in world.cells if cell.region == 0]
        world.lose(region[:lost_cells])
    else:
        world.cut_all()
    world.clock.run(until)
    handshakes = world.begun + sum(cell.wasted for cell in world.cells)
    tries = world.refused + world.given_up + world.begun
    times = [until * step / STEPS for step in range(STEPS + 1)]
    back = sorted(world.returned_at)
    curve = tuple((round(at, 2), round(bisect_right(back, at) / world.lost, 4)) for at in times)
    return Return(
        name,
        plan.headroom,
        clients.spread_s,
        queue_s,
        round(plan.handshake_ms + plan.tls_ms, 3),
        _quantile(world.returned_at, world.lost, 0.5),
        _quantile(world.returned_at, world.lost, 0.99),
        len(world.returned_at) / world.lost,
        world.live / (plan.streams // quantum),
        tries / max(1, world.wanted),
        sum(cell.wasted for cell in world.cells) / max(1, handshakes),
        curve,
    )


def losses(plan: Plan, *, quantum: int, seed: int = 1) -> list[Return]:
    """One cell and one region, with several headrooms, and clients that spread their return or do not."""
    found = []
    for headroom in (0.05, 0.25, 0.5):
        for name, cells in (("a cell", 1), ("a region", plan.cells_per_region)):
            for spread in (0.0, 10.0):
                given = replace(plan, headroom=headroom)
                clients = Clients(plan.mean_stream_s, spread_s=spread)
                found.append(loss(name, given, clients, lost_cells=cells, quantum=quantum, seed=seed))
    return found


def storms(plan: Plan, costs_ms: Sequence[float], *, quantum: int, seed: int = 1) -> list[Return]:
    """Cut every stream at once: handshakes of several costs, with spread returns, bounded queues, both, or neither."""
    found = []
    for cost in costs_ms:
        for spread, queue_s in ((0.0, None), (30.0, None), (0.0, QUEUE_S), (30.0, QUEUE_S)):
            given = replace(plan, handshake_ms=cost - plan.tls_ms)
            clients = Clients(plan.mean_stream_s, spread_s=spread)
            found.append(loss("all", given, clients, lost_cells=0, quantum=quantum, seed=seed, queue_s=queue_s))
    return found


@dataclass(frozen=True, slots=True)
class Day:
    """A day with autoscaling."""

    target: float
    start_s: float
    """Time from the decision to a process that takes streams."""
    process_hours: float
    """As a share of a fleet that has the peak's processes all day."""
    refused: float
    """Refusals for each stream that came."""
    reconnects: float
    """Share of the streams that a scale-down asked to reconnect."""
    times: tuple[float, ...]
    demand: tuple[int, ...]
    capacity: tuple[int, ...]


def demand(now: float) -> float:
    """Return the share of the peak at a time of the day: quiet at night, a steep morning, an evening."""
    hour = now / 3600 % 24
    morning = 1 / (1 + math.exp(-(hour - 8.5) * 3))
    evening = 1 / (1 + math.exp((hour - 20) * 1.2))
    return 0.12 + 0.88 * min(morning, evening)


def day(plan: Plan, *, target: float, start_s: float, quantum: int, seed: int = 1) -> Day:
    """Scale each cell by its load, as the chart does: up at once, down by 5 % in two minutes after five quiet ones."""
    clients = Clients(plan.mean_stream_s, spread_s=10.0)
    cells = cells_of(plan, quantum)
    world = World(cells, clients, seed)
    full = cells[0].slots
    rate = cells[0].handshakes_per_s
    for cell in cells:
        cell.slots = max(1, round(full * demand(0.0)))
    world.fill(round(plan.streams * demand(0.0) / quantum))
    peak = plan.streams / quantum / clients.mean_stream_s
    world.arrive(lambda now: peak * demand(now), DAY_S)
    scaler = _Scaler(world, full, rate, target, start_s)
    times, wanted, there = [], [], []
    while world.clock.now < DAY_S:
        world.clock.run(world.clock.now + SAMPLE_S)
        times.append(world.clock.now)
        wanted.append(round(plan.streams * demand(world.clock.now)))
        there.append(sum(cell.slots for cell in cells) * quantum)
    static = full * len(cells) * DAY_S
    return Day(
        target,
        start_s,
        scaler.slot_seconds / static,
        world.refused / max(1, world.begun),
        scaler.moved / max(1, world.begun),
        tuple(times),
        tuple(wanted),
        tuple(there),
    )


class _Scaler:
    """Looks at each cell every 15 s."""

    every_s = 15.0
    quiet_s = 300.0
    step_down_s = 120.0

    def __init__(self, world: World, full: int, rate: float, target: float, start_s: float) -> None:
        self._world = world
        self._full = full
        self._rate = rate
        self._target = target
        self._start_s = start_s
        self._ordered = {id(cell): cell.slots for cell in world.cells}
        self._quiet_since = {id(cell): 0.0 for cell in world.cells}
        self.slot_seconds = 0.0
        self.moved = 0
        world.clock.after(self.every_s, self._look)

    def _look(self) -> None:
        clock = self._world.clock
        for cell in self._world.cells:
            self.slot_seconds += self._ordered[id(cell)] * self.every_s  # a machine that starts is paid for
            wanted = max(1, min(self._full, math.ceil(cell.live / self._target)))
            ordered = self._ordered[id(cell)]
            if wanted > ordered:
                self._ordered[id(cell)] = wanted
                clock.after(self._start_s, lambda cell=cell, more=wanted - ordered: self._grow(cell, more))  # type: ignore[misc]
            if wanted >= ordered:
                self._quiet_since[id(cell)] = clock.now
            elif clock.now - self._quiet_since[id(cell)] >= self.quiet_s and cell.slots == ordered:
                self._quiet_since[id(cell)] = clock.now - self.quiet_s + self.step_down_s
                self._shrink(cell, max(1, ordered // 20))
        clock.after(self.every_s, self._look)

    def _grow(self, cell: Cell, slots: int) -> None:
        cell.slots += slots
        cell.handshakes_per_s = self._rate * cell.slots / self._full

    def _shrink(self, cell: Cell, slots: int) -> None:
        """Take slots away. Their streams are asked to reconnect, and do."""
        slots = min(slots, cell.slots - 1)
        self.moved += round(cell.live * slots / cell.slots)
        cell.slots -= slots
        self._ordered[id(cell)] = cell.slots
        cell.handshakes_per_s = self._rate * cell.slots / self._full


def days(plan: Plan, *, quantum: int) -> list[Day]:
    """Days with several targets and times to start a process."""
    return [
        day(plan, target=target, start_s=start, quantum=quantum)
        for target in (0.6, 0.7, 0.85)
        for start in (30.0, 180.0, 600.0)
    ]


def _quantile(returned_at: Sequence[float], of: int, share: float) -> float | None:
    rank = math.ceil(of * share)
    return sorted(returned_at)[rank - 1] if len(returned_at) >= rank else None
