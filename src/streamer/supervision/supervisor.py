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
from streamer.supervision.ipc import (
    Command,
    Drain,
    End,
    MetricsTotals,
    Notification,
    Ready,
    RequestTotals,
    WorkerSettings,
)
from streamer.supervision.restarts import RestartPolicy, Restarts
from streamer.supervision.server_process import HealthCheck, ProcessExit, ServerProcess
from streamer.telemetry.metrics_merge import ProcessState

GATHER_TIMEOUT_S = 1.0
"""Time in seconds that a scrape waits for a process. For a late process it uses the last known metrics."""

log = logging.getLogger(__name__)


class MetricsMerger(Protocol):
    """Interface for merging metrics, which are opaque here."""

    def supervisor_metrics(self, states: Mapping[ProcessState, int], restarts: int) -> bytes:
        """Return the metrics of the supervisor itself."""

    def merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes:
        """Return the sum. Of `past` (exited or silent processes) only cumulative metrics are included."""


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """Specification of the processes to run."""

    command: Sequence[str]
    """Command that starts one process; the descriptor of its end of the socket pair is added as an argument."""
    setup: WorkerSettings
    processes: int
    drain_timeout_s: float
    """Time in seconds after which a process that was asked to drain is killed."""
    end_timeout_s: float
    health_check: HealthCheck = HealthCheck()
    restarts: RestartPolicy = RestartPolicy()


@dataclass(frozen=True, slots=True)
class SupervisorOutcome:
    """Result of the supervisor; `problem` if it ended unexpectedly.

    `detail`: the traceback of the model author's code, if that is the reason.
    """

    exit_code: int
    problem: str | None = None
    detail: str = ""


class Supervisor:
    """Runs the processes of a plan until it is stopped or gives up.

    It gives up if a process cannot start before all have served once, or if the processes of one slot die repeatedly.
    Then the others are drained. `announce` is called once, when all processes serve.
    """

    def __init__(
        self,
        plan: ProcessPlan,
        metrics_merger: MetricsMerger,
        announce: Callable[[Ready], None],
        clock: Clock | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock or LoopClock()
        self._metrics_merger = metrics_merger
        self._announce = announce
        self.processes: dict[int, ServerProcess] = {}
        """Current process of each slot."""
        self._announced = False
        self._stopping = asyncio.Event()
        self._kill_timer: asyncio.TimerHandle | None = None
        self._outcome = SupervisorOutcome(0)
        self._restarts = 0
        self._past_metrics = b""
        """Metrics of exited processes."""
        self._tasks = asyncio.TaskGroup()

    async def run(self) -> SupervisorOutcome:
        try:
            async with self._tasks:
                for number in range(self._plan.processes):
                    self._tasks.create_task(self._keep_running(number))
        finally:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
        return self._outcome

    def drain(self, *, lag: bool) -> None:
        """Drain all sessions, then exit."""
        self._stop(Drain(lag), self._plan.drain_timeout_s)

    def end(self) -> None:
        """Exit immediately."""
        self._stop(End(), self._plan.end_timeout_s)

    # One place ----------------------------------------------------------------------------------

    async def _keep_running(self, number: int) -> None:
        """Keep one process running in a slot."""
        plan = self._plan
        restarts = Restarts(plan.restarts)
        while not self._stopping.is_set():
            process = ServerProcess(number, plan.command, plan.setup, plan.health_check, self._clock, self._on_message)
            self.processes[number] = process
            process_exit = await process.run()
            if (past := self._merge((), [self._past_metrics, process.metrics])) is not None:
                self._past_metrics = past
            process.metrics = b""
            if self._stopping.is_set():
                self._on_expected_exit(number, process_exit)
            elif not self._announced:
                problem = process_exit.failure or f"server process {number} {process_exit}"
                self._give_up(problem, max(process_exit.code, 1), process_exit.detail)
            elif (pause_s := restarts.next_pause(process_exit.served_s)) is None:
                problem = f"server process {number} {process_exit}, {restarts.consecutive} times in a row"
                self._give_up(problem, 1, process_exit.detail)
            else:
                self._restarts += 1
                log.error(
                    "server process %d (pid %s) %s: starting another one in %g s",
                    number,
                    process.pid,
                    process_exit,
                    pause_s,
                )
                await self._pause(pause_s)

    async def _pause(self, pause_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()

    # All ----------------------------------------------------------------------------------------

    def _on_message(self, process: ServerProcess, message: Notification) -> None:
        match message:
            case RequestTotals():
                self._tasks.create_task(self._send_totals(process))
            case Ready() if not self._announced and self.states[ProcessState.SERVING] == self._plan.processes:
                self._announced = True
                self._announce(message)

    @property
    def states(self) -> Counter[ProcessState]:
        """Number of processes by state."""
        return Counter(process.state for process in self.processes.values())

    async def _send_totals(self, asker: ServerProcess) -> None:
        processes = list(self.processes.values())
        fresh = await asyncio.gather(*(process.collect(GATHER_TIMEOUT_S) for process in processes))
        now = [process.metrics for process, is_fresh in zip(processes, fresh, strict=True) if is_fresh]
        late = [process.metrics for process, answered in zip(processes, fresh, strict=True) if not answered]
        own = self._metrics_merger.supervisor_metrics(self.states, self._restarts)
        asker.send(MetricsTotals(self._merge([own, *now], [self._past_metrics, *late])))

    def _merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes | None:
        """Return the sum, or None if the metrics cannot be merged, which must not end the server."""
        try:
            return self._metrics_merger.merge(now, past)
        except Exception:
            log.exception("the metrics of the server processes cannot be merged")
            return None

    def _stop(self, order: Command, timeout_s: float) -> None:
        self._stopping.set()
        for process in self.processes.values():
            process.send(order)
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = asyncio.get_running_loop().call_later(timeout_s, self._kill_all, timeout_s)

    def _kill_all(self, after_s: float) -> None:
        for process in self.processes.values():
            if process.state is not ProcessState.DOWN:
                log.error("server process %d has not exited within %g s: killing it", process.number, after_s)
                process.kill()

    def _on_expected_exit(self, number: int, process_exit: ProcessExit) -> None:
        """Record the exit status of a process that was asked to stop."""
        if process_exit.code and self._outcome.exit_code == 0:
            log.error("server process %d %s while it was draining", number, process_exit)
            self._outcome = SupervisorOutcome(1)

    def _give_up(self, problem: str, exit_code: int, detail: str) -> None:
        self._outcome = SupervisorOutcome(exit_code, problem, detail)
        if self._announced:
            log.critical("giving up: %s", problem)
            self.drain(lag=False)
        else:
            self.end()
