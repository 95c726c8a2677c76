"""Several server processes as one server: started together, replaced when they die, drained and counted as one."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from streamer.clock import Clock, LoopClock
from streamer.runtime.control import Answer, Drain, End, Gather, Gathered, Order, Ready, Setup
from streamer.runtime.restarts import RestartPolicy, Restarts
from streamer.runtime.serving_process import Gone, ServingProcess, State, Watch

GATHER_TIMEOUT_S = 1.0
"""Time in seconds that a scrape waits for a process. For a late process it uses the last known metrics."""

log = logging.getLogger(__name__)


class Tally(Protocol):
    """Interface for merging metrics, which are opaque here."""

    def own(self, states: Mapping[State, int], restarts: int) -> bytes:
        """Return the metrics of the supervisor itself."""

    def merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes:
        """Return the sum. Of `past` (exited or silent processes) only cumulative metrics are included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Specification of the processes to run."""

    command: Sequence[str]
    """Command that starts one process; the descriptor of its end of the socket pair is added as an argument."""
    setup: Setup
    processes: int
    drain_timeout_s: float
    """Time in seconds after which a process that was asked to drain is killed."""
    end_timeout_s: float
    watch: Watch = Watch()
    restarts: RestartPolicy = RestartPolicy()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of the supervisor; `problem` if it ended unexpectedly."""

    exit_code: int
    problem: str | None = None


class Supervisor:
    """Runs the processes of a plan until it is stopped or gives up.

    It gives up if a process cannot start before all have served once, or if the processes of one slot die repeatedly.
    Then the others are drained. `announce` is called once, when all processes serve.
    """

    def __init__(self, plan: Plan, tally: Tally, announce: Callable[[Ready], None], clock: Clock | None = None) -> None:
        self._plan = plan
        self._clock = clock or LoopClock()
        self._tally = tally
        self._announce = announce
        self.processes: dict[int, ServingProcess] = {}
        """Current process of each slot."""
        self._announced = False
        self._stopping = asyncio.Event()
        self._kill: asyncio.TimerHandle | None = None
        self._outcome = Outcome(0)
        self._restarts = 0
        self._past = b""
        """Metrics of exited processes."""
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> Outcome:
        try:
            async with self._tasks:
                for number in range(self._plan.processes):
                    self._tasks.create_task(self._keep(number))
        finally:
            if self._kill is not None:
                self._kill.cancel()
        return self._outcome

    def drain(self, *, lag: bool) -> None:
        """Drain all sessions, then exit."""
        self._stop(Drain(lag), self._plan.drain_timeout_s)

    def end(self) -> None:
        """Exit immediately."""
        self._stop(End(), self._plan.end_timeout_s)

    # One place ----------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Keep one process running in a slot."""
        plan = self._plan
        restarts = Restarts(plan.restarts)
        while not self._stopping.is_set():
            process = ServingProcess(number, plan.command, plan.setup, plan.watch, self._clock, self._hear)
            self.processes[number] = process
            gone = await process.run()
            if (past := self._merge((), [self._past, process.counts])) is not None:
                self._past = past
            process.counts = b""
            if self._stopping.is_set():
                self._ended(number, gone)
            elif not self._announced:
                self._give_up(gone.failure or f"server process {number} {gone}", max(gone.code, 1))
            elif (pause_s := restarts.died(gone.served_s)) is None:
                self._give_up(f"server process {number} {gone}, {restarts.in_a_row} times in a row", 1)
            else:
                self._restarts += 1
                log.error(
                    "server process %d (pid %s) %s: starting another one in %g s", number, process.pid, gone, pause_s
                )
                await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    # All ----------------------------------------------------------------------------------------

    def _hear(self, process: ServingProcess, word: Answer) -> None:
        match word:
            case Gather():
                self._tasks.create_task(self._gather(process))
            case Ready() if not self._announced and self.states[State.SERVING] == self._plan.processes:
                self._announced = True
                self._announce(word)

    @property
    def states(self) -> Counter[State]:
        """Number of processes by state."""
        return Counter(process.state for process in self.processes.values())

    async def _gather(self, asker: ServingProcess) -> None:
        processes = list(self.processes.values())
        fresh = await asyncio.gather(*(process.report(GATHER_TIMEOUT_S) for process in processes))
        now = [process.counts for process, answered in zip(processes, fresh, strict=True) if answered]
        late = [process.counts for process, answered in zip(processes, fresh, strict=True) if not answered]
        own = self._tally.own(self.states, self._restarts)
        asker.tell(Gathered(self._merge([own, *now], [self._past, *late])))

    def _merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes | None:
        """Return the sum, or None if the metrics cannot be merged, which must not end the server."""
        try:
            return self._tally.merge(now, past)
        except Exception:
            log.exception("the metrics of the server processes cannot be merged")
            return None

    def _stop(self, order: Order, timeout_s: float) -> None:
        self._stopping.set()
        for process in self.processes.values():
            process.tell(order)
        if self._kill is not None:
            self._kill.cancel()
        self._kill = asyncio.get_running_loop().call_later(timeout_s, self._kill_all, timeout_s)

    def _kill_all(self, after_s: float) -> None:
        for process in self.processes.values():
            if process.state is not State.DOWN:
                log.error("server process %d has not exited within %g s: killing it", process.number, after_s)
                process.kill()

    def _ended(self, number: int, gone: Gone) -> None:
        """Record the exit status of a process that was asked to stop."""
        if gone.code and self._outcome.exit_code == 0:
            log.error("server process %d %s while it was draining", number, gone)
            self._outcome = Outcome(1)

    def _give_up(self, problem: str, exit_code: int) -> None:
        self._outcome = Outcome(exit_code, problem)
        if self._announced:
            log.critical("giving up: %s", problem)
            self.drain(lag=False)
        else:
            self.end()
