"""A discrete-event world of clients and cells, on a clock of its own, seeded.

A cohort of `quantum` streams moves as one. A cell has slots and a queue of handshakes, which it serves at a rate. A
client that waits longer than its patience gives up and comes back; the handshake that it left behind is served all the
same, for nothing.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


class Clock:
    """Time in seconds that jumps from event to event."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), call))

    def run(self, until: float) -> None:
        """Run the events up to a time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = until


@dataclass(frozen=True, slots=True)
class Clients:
    """How clients behave."""

    mean_stream_s: float = 300.0
    patience_s: float = 5.0
    """Time after which a client gives up a handshake."""
    retry_s: float = 1.0
    """Pause before the first new attempt, and the least of every one."""
    spread_s: float = 0.0
    """The pause is drawn evenly from [retry_s, retry_s + spread]; the spread doubles with each attempt, to 8-fold."""


@dataclass(slots=True, eq=False)
class Cell:
    """Servers behind one load balancer. Counts are of cohorts."""

    region: int
    slots: int
    handshakes_per_s: float
    """Cohorts in a second."""
    queue_s: float = math.inf
    """Longest queue of handshakes, in seconds of work; one more is refused at once, which costs nothing."""
    up: bool = True
    live: int = 0
    epoch: int = 0
    """Number of losses; a stream of an earlier epoch is gone."""
    queue: deque[Attempt] = field(default_factory=deque)
    busy: bool = False
    wasted: int = 0
    """Handshakes that were served after their client had given up."""

    @property
    def load(self) -> float:
        return (self.live + len(self.queue)) / self.slots if self.up and self.slots else 1e9


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt of a cohort to connect."""

    remaining_s: float
    tries: int
    resumed: bool
    """Whether its stream was lost."""
    waiting: bool = True


class World:
    """Cells and the clients that stream to them."""

    def __init__(self, cells: list[Cell], clients: Clients, seed: int, known_after_s: float = 0.0) -> None:
        """`known_after_s`: time after which the load balancer in front of the cells knows that a cell is lost."""
        self.clock = Clock()
        self.cells = cells
        self.clients = clients
        self.random = random.Random(seed)
        self.known_after_s = known_after_s
        self.known_down: set[int] = set()
        self.wanted = self.refused = self.given_up = self.ended = self.begun = 0
        self.returned_at: list[float] = []
        """Time of the return of each cohort that was lost."""
        self.lost = 0
        self.outside = 0
        """Cohorts that want a stream and have none."""

    # Streams ------------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        return sum(cell.live for cell in self.cells)

    def fill(self, cohorts: int) -> None:
        """Begin with live streams, spread over the cells as the load balancer does."""
        for index in range(cohorts):
            self._live(self.cells[index % len(self.cells)], self._length())

    def arrive(self, rate: Callable[[float], float], until: float) -> None:
        """Let new cohorts come at `rate(now)` per second."""

        def one() -> None:
            self.connect(Attempt(self._length(), 0, resumed=False))
            if self.clock.now < until:
                self.clock.after(self.random.expovariate(rate(self.clock.now)), one)

        self.clock.after(self.random.expovariate(rate(0.0)), one)

    def connect(self, attempt: Attempt) -> None:
        """Send a cohort to a cell: of two at random the one with less load, in its own region if that has room."""
        if attempt.tries == 0:
            self.wanted += 1
            self.outside += 1
        cell = self._choose()
        if not cell.up:  # nobody answers
            self.clock.after(self.clients.patience_s, lambda: self._again(attempt))
            return
        if cell.live + len(cell.queue) >= cell.slots or len(cell.queue) >= cell.queue_s * cell.handshakes_per_s:
            self.refused += 1
            self._again(attempt)
            return
        attempt.waiting = True
        cell.queue.append(attempt)
        tries = attempt.tries
        self.clock.after(self.clients.patience_s, lambda: self._give_up(attempt, tries))
        self._serve(cell)

    def lose(self, cells: list[Cell]) -> None:
        """Lose cells: their streams end, and their clients come back."""
        for cell in cells:
            cell.up = False
            cell.epoch += 1
            index = self.cells.index(cell)
            self.clock.after(self.known_after_s, lambda index=index: self.known_down.add(index))  # type: ignore[misc]
            lost, cell.live = cell.live, 0
            queued, cell.queue = cell.queue, deque()
            self.lost += lost
            for _ in range(lost):
                self._come_back(Attempt(self._length(), 0, resumed=True))
            for attempt in queued:
                if attempt.waiting:
                    attempt.waiting = False
                    self._again(attempt)

    def cut_all(self) -> None:
        """Cut every stream at once, as a load balancer in front of everything that restarts."""
        for cell in self.cells:
            cell.epoch += 1
            lost, cell.live = cell.live, 0
            self.lost += lost
            for _ in range(lost):
                self._come_back(Attempt(self._length(), 0, resumed=True))

    # Inside -------------------------------------------------------------------------------------

    def _length(self) -> float:
        return self.random.expovariate(1 / self.clients.mean_stream_s)

    def _pause(self, tries: int) -> float:
        spread = self.clients.spread_s * min(8, 2**tries)
        return self.random.uniform(self.clients.retry_s, self.clients.retry_s + spread)

    def _come_back(self, attempt: Attempt) -> None:
        self.clock.after(self._pause(0) - self.clients.retry_s, lambda: self.connect(attempt))

    def _again(self, attempt: Attempt) -> None:
        pause = self._pause(attempt.tries)
        attempt.tries += 1
        self.clock.after(pause, lambda: self.connect(attempt))

    def _give_up(self, attempt: Attempt, tries: int) -> None:
        if attempt.waiting and attempt.tries == tries:
            attempt.waiting = False
            self.given_up += 1
            fresh = Attempt(attempt.remaining_s, attempt.tries, attempt.resumed)
            self._again(fresh)

    def _choose(self) -> Cell:
        known = [cell for index, cell in enumerate(self.cells) if index not in self.known_down]
        here = self.random.randrange(1 + max(cell.region for cell in self.cells))
        near = [cell for cell in known if cell.region == here]
        for pool in (near, known):
            if pool:
                best = min(self.random.choice(pool), self.random.choice(pool), key=self._seen_load)
                if self._seen_load(best) < 1:
                    return best
        return best

    def _seen_load(self, cell: Cell) -> float:
        """Load as the balancer sees it: a lost cell looks empty until it is known."""
        return cell.load if cell.up else 0.0

    def _serve(self, cell: Cell) -> None:
        if not cell.busy and cell.queue:
            cell.busy = True
            self.clock.after(1 / cell.handshakes_per_s, lambda: self._served(cell))

    def _served(self, cell: Cell) -> None:
        cell.busy = False
        if not cell.queue:
            return
        attempt = cell.queue.popleft()
        if attempt.waiting:
            attempt.waiting = False
            self.outside -= 1
            self.begun += 1
            if attempt.resumed:
                self.returned_at.append(self.clock.now)
            self._live(cell, attempt.remaining_s)
        else:
            cell.wasted += 1
        self._serve(cell)

    def _live(self, cell: Cell, seconds: float) -> None:
        cell.live += 1
        epoch = cell.epoch
        self.clock.after(seconds, lambda: self._end(cell, epoch))

    def _end(self, cell: Cell, epoch: int) -> None:
        if epoch == cell.epoch:
            cell.live -= 1
            self.ended += 1
