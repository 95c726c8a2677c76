"""The workers of one model: started and stopped together, ready if one of them is available."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable
from functools import partial
from typing import Generic

from streamer.clock import Clock
from streamer.errors import ConfigError, ModelLoadError, install_command
from streamer.inference.contract import Readiness
from streamer.inference.model_config import ModelConfig
from streamer.inference.model_runner import ModelRunner, ModelSource
from streamer.inference.observer import EngineObserver, WorkerObserver
from streamer.inference.running_calls import WorkT
from streamer.inference.scaling import ScalePolicy, Scaler, Work, WorkerLoad
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.inference.worker_slot import SlotOwner, SlotState, Spawn, WorkerSlot
from streamer.inference.workers import Worker, WorkerOwner

FAILED_START_STOP_S = 1.0
"""Time in seconds for workers to end that could not load their model."""
KILL_GRACE_S = 5.0
"""Time in seconds for a killed process to exit."""


class WorkerPool(Generic[WorkT]):
    """The worker slots of one model. `notify_changed()` must be called after each change of a slot."""

    def __init__(
        self,
        source: ModelSource,
        config: ModelConfig,
        settings: EngineSettings,
        clock: Clock,
        observer: EngineObserver,
        log: logging.Logger,
        spawn: Spawn | None = None,
        observe: Callable[[], WorkerObserver] = WorkerObserver,
        ray: RaySettings | None = None,
        work: Callable[[], Work] = lambda: Work(0.0, lambda _: 0),
    ) -> None:
        """Prepare the slots. `observe` is called in each worker, and must be picklable for worker processes.

        `ray`: the cluster, if the executor is "ray". `work`: returns the work that decides on the number of workers.
        Raises ConfigError if Ray is needed and not installed.
        """
        if config.executor == "ray" and importlib.util.find_spec("ray") is None:
            raise ConfigError(f'executor = "ray" needs the extra, which is not installed: {install_command("ray")}')
        self._ray = ray or RaySettings()
        self._work = work
        policy = ScalePolicy(config.min_workers, config.workers, settings)
        self._scaler = Scaler(policy, self, self._load, clock) if config.min_workers < config.workers else None
        self._start_worker = spawn or self._spawn
        self._config = config
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._log = log
        self._make_runner = partial(
            ModelRunner,
            source,
            max_output_bytes=settings.max_output_bytes,
            max_partials=settings.max_partials,
            observe=observe,
            overlaps=config.max_concurrent > 0,
        )
        self._leaving: set[int] = set()
        """Indices of the slots that get no new work, and are parked when that is done."""
        self._change = asyncio.Event()
        self._stopping = False
        self.slots: list[WorkerSlot[WorkT]] = []

    async def start(self, owner: SlotOwner[WorkT]) -> None:
        """Load and warm every worker. Raises ModelLoadError if none can be loaded."""
        self.slots = [
            WorkerSlot(
                index, self._config, self._settings, self._clock, self._start_worker, owner, self._observer, self._log
            )
            for index in range(self._config.workers)
        ]
        for slot in self.slots:
            slot.quiet = True
        for slot in self.slots[: self._config.min_workers]:
            slot.start()
        for slot in self.slots[self._config.min_workers :]:
            slot.park()
        while any(slot.state is SlotState.STARTING and not slot.consecutive_failures for slot in self.slots):
            await self._next_change()
        if not self.readiness.ready:
            problems = "; ".join(
                sorted({slot.last_loss.removeprefix(f"worker {slot.index}: ") for slot in self.slots if slot.last_loss})
            )
            details = "\n".join(sorted({slot.load_error for slot in self.slots} - {""}))
            await self.stop(FAILED_START_STOP_S)
            raise ModelLoadError(f"model {self._config.name!r}: {problems}", detail=details)
        for slot in self.slots:
            slot.speak()
        if self._scaler is not None:
            self._scaler.start()

    async def stop(self, timeout_s: float) -> bool:
        """Let every worker finish its call, then stop. Kill those that do not stop in time, and return False then."""
        self._stopping = True
        if self._scaler is not None:
            self._scaler.stop()
        for slot in self.slots:
            slot.stop()
        if await self._wait_ended(timeout_s):
            return True
        for slot in self.slots:
            slot.kill()
        if not await self._wait_ended(0.0 if self._config.executor == "thread" else KILL_GRACE_S):
            still_running = sum(len(slot.terminating) for slot in self.slots)
            self._log.warning("%d model workers did not stop and were abandoned", still_running)
        return False

    def notify_changed(self) -> None:
        """Wake the tasks that wait for a change of a slot."""
        self._change.set()

    def idle_slots(self) -> list[WorkerSlot[WorkT]]:
        """Return the slots that can take a batch. Those that are let go take one for states that they have.

        If the calls of the model overlap, the one with the most room is the first.
        """
        leaving = frozenset() if self._config.stateful else self._leaving
        if not self._config.max_concurrent:
            return [slot for slot in self.slots if slot.state is SlotState.IDLE and slot.index not in leaving]
        free = [slot for slot in self.slots if slot.room and slot.index not in leaving]
        return sorted(free, key=lambda slot: -slot.room)

    def staying(self) -> list[int]:
        """Return the indices of the slots with an available worker that may get new states."""
        answering = self.responsive_slots()
        return [index for index in answering if index not in self._leaving] or answering

    def responsive_slots(self) -> list[int]:
        """Return the indices of the slots with an available worker."""
        return [slot.index for slot in self.slots if slot.is_responsive]

    def _load(self) -> WorkerLoad:
        return WorkerLoad(self._work().owed_s, sum(slot.use for slot in self.slots))

    @property
    def active(self) -> int:
        """Implement `scaling.Scalable.active`."""
        return sum(slot.state is not SlotState.PARKED and slot.index not in self._leaving for slot in self.slots)

    def scale(self, workers: int) -> None:
        """Implement `scaling.Scalable.scale`. Workers that were let go and are still here come first."""
        before, states = self.active, self._work().states
        for index in sorted(self._leaving):
            if self.active < workers:
                self._leaving.discard(index)
        for slot in self.slots:
            if self.active < workers and slot.state is SlotState.PARKED:
                slot.start()
        while self.active > workers:
            candidates = [slot for slot in self.slots if slot.state is not SlotState.PARKED]
            candidates = [slot for slot in candidates if slot.index not in self._leaving]
            self._leaving.add(
                min(candidates, key=lambda slot: (slot.is_responsive, states(slot.index), -slot.index)).index
            )
        self._log.info("workers: %d instead of %d, by the load", self.active, before)

    def park(self) -> None:
        """Implement `scaling.Scalable.park`."""
        states = self._work().states
        for index in tuple(self._leaving):
            slot = self.slots[index]
            if not slot.running and not states(index):
                self._leaving.discard(index)
                slot.park()

    def count(self, state: SlotState) -> int:
        return sum(slot.state is state for slot in self.slots)

    @property
    def readiness(self) -> Readiness:
        if self._stopping:
            return Readiness(False, "stopping")
        if self.responsive_slots():
            return Readiness(True)
        problems = [slot.problem for slot in self.slots if slot.state is not SlotState.PARKED]
        return Readiness(False, "; ".join(problems) or "not started")

    async def _wait_ended(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not all(slot.is_ended for slot in self.slots):
                    await self._next_change()
        except TimeoutError:
            return False
        return True

    async def _next_change(self) -> None:
        self._change.clear()
        await self._change.wait()

    def _spawn(self, name: str, owner: WorkerOwner) -> Worker:
        if self._config.executor == "thread":
            from streamer.inference.workers import ThreadWorker  # noqa: PLC0415

            return ThreadWorker(name, owner, self._make_runner)
        from streamer.inference.process_worker import ProcessWorker  # noqa: PLC0415 (psutil, only where needed)

        if self._config.executor == "process":
            return ProcessWorker(name, owner, self._make_runner, overlaps=self._config.max_concurrent > 0)
        from streamer.inference.ray_host import RayHost  # noqa: PLC0415

        # Ray's core writes plain lines, which would be no JSON in the log.
        return ProcessWorker(
            name, owner, partial(RayHost, self._make_runner, self._ray), partial(self._log.info, "%s: %s", name)
        )
