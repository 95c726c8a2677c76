"""A worker slot: restarts its worker after each loss, with a growing pause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Generic, Protocol

from streamer.clock import Clock
from streamer.inference.model_config import ModelConfig
from streamer.inference.model_runner import SILENCE_S
from streamer.inference.observer import EngineObserver, LossCause
from streamer.inference.running_calls import RunningCall, RunningCalls, WorkT
from streamer.inference.scheduler import StreamKey
from streamer.inference.settings import EngineSettings
from streamer.inference.worker_protocol import InferenceItem, Op, WorkerCall, WorkerReply
from streamer.inference.workers import Worker, WorkerOwner

FIRST_CALL = f"the first call, on {SILENCE_S:g} s of silence,"

CANCEL_TIMEOUT_S = 5.0
"""Time in seconds for a cancelled call to end. A worker that needs longer is taken for hung."""

Spawn = Callable[[str, WorkerOwner], Worker]


class SlotState(Enum):
    STARTING = auto()
    IDLE = auto()
    BUSY = auto()
    BACKOFF = auto()
    """No worker until the next restart."""
    EXHAUSTED = auto()
    """No worker: too many threads are hung."""
    PARKED = auto()
    """No worker, because the load does not need it."""
    STOPPED = auto()


class SlotOwner(Protocol[WorkT]):
    """Receives the results of a slot."""

    def on_reply(self, slot: WorkerSlot[WorkT], work: WorkT, reply: WorkerReply) -> None:
        """Handle a reply; the last one of a call is done."""

    def on_timeout(self, slot: WorkerSlot[WorkT], work: WorkT, reason: str) -> None:
        """Handle the end of one of several calls, which took too long and was cancelled."""

    def on_worker_lost(self, slot: WorkerSlot[WorkT], work: Sequence[WorkT], cause: LossCause, reason: str) -> None:
        """Handle the loss of a worker and its states; `work` is what it was running."""

    def on_slots_changed(self) -> None:
        """Handle a worker that can take more, or was lost."""


@dataclass(slots=True, eq=False)
class WorkerSlot(Generic[WorkT]):
    """Slot for one worker at a time."""

    index: int
    config: ModelConfig
    settings: EngineSettings
    clock: Clock
    """Clock of the time-outs. It leaves out pauses of the server, in which a worker is paused as well or its replies
    wait."""
    spawn: Spawn
    owner: SlotOwner[WorkT]
    observer: EngineObserver
    log: logging.Logger
    state: SlotState = SlotState.BACKOFF
    problem: str = "not started"
    """Why no worker is available; empty if one is."""
    closing_keys: list[StreamKey] = field(default_factory=list)
    """States to close with the next call."""
    worker: Worker | None = None
    running: RunningCalls[WorkT] = field(init=False)
    last_loss: str = ""
    """Why the previous worker was lost."""
    load_error: str = ""
    """Traceback of the author's code, if the load failed."""
    loading: bool = False
    """In load() or warm(), before the first call."""
    quiet: bool = False
    """Log no loss: the start of the server reports it."""
    consecutive_failures: int = 0
    """Consecutive losses without an answer."""
    terminating: set[Worker] = field(default_factory=set)
    """Stopped workers whose threads have not ended yet."""
    stopping: bool = False
    over_limit: str = ""
    """Why the worker is replaced after its running calls."""
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.running = RunningCalls(self.config.max_concurrent)

    # -- what the owner asks ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker, load the model and warm it."""
        self._cancel_timer()
        self.state = SlotState.STARTING
        self.problem = "loading" if not self.consecutive_failures else f"{self.problem}; restarting"
        self.closing_keys.clear()
        self.load_error = ""
        self.loading = True
        self.over_limit = ""
        worker = self.spawn(f"streamer-worker-{self.index}", self)
        try:
            worker.start()
        except RuntimeError as error:  # the system has no thread left
            self._on_worker_lost(LossCause.LOAD_FAILED, f"worker {self.index} could not be started: {error}")
            return
        self.worker = worker
        self._call(WorkerCall(Op.LOAD), None, self.settings.load_timeout_s)

    def park(self) -> None:
        """Stop an idle worker, with unload(), or the attempts to start one, until `start`."""
        assert not self.running
        self._cancel_timer()
        if self.worker is not None:
            closing, self.closing_keys = self.closing_keys, []
            self.worker.call(WorkerCall(Op.UNLOAD, [], closing))
            self._detach()
        self.consecutive_failures = 0
        self.state = SlotState.PARKED
        self.problem = "not needed"

    @property
    def room(self) -> int:
        """Number of items that the worker can take now, if the model's calls overlap."""
        is_available = self.state in (SlotState.IDLE, SlotState.BUSY) and not self.over_limit
        return self.running.room if is_available else 0

    @property
    def use(self) -> float:
        """Part of the worker that is in use, from 0 to 1."""
        if self.state is not SlotState.BUSY:
            return 0.0
        return self.running.items / self.running.places if self.running.places else 1.0

    def run(
        self, items: list[InferenceItem], work: WorkT, seconds: float, trace: str | None, *, alone: bool = False
    ) -> None:
        """Run a batch on a worker that is idle, or has room for it.

        `seconds`: length of its audio, which determines the time-out. `alone`: start no other call meanwhile.
        """
        assert self.state is SlotState.IDLE or self.room >= len(items)
        self._cancel_timer()
        closing, self.closing_keys = self.closing_keys, []
        self.running.is_reserved = alone
        call = WorkerCall(Op.INFER, items, closing, trace, self.running.next_id())
        self._call(call, work, self.config.timeout_s(seconds))

    def close(self, stream_keys: Sequence[StreamKey]) -> None:
        """Close these states, now or with the next call."""
        self.closing_keys.extend(stream_keys)
        if self.closing_keys and self.state is SlotState.IDLE:
            self._cancel_timer()
            closing, self.closing_keys = self.closing_keys, []
            self._call(WorkerCall(Op.CLOSE, [], closing), None, self.config.timeout_s(0))

    def stop(self) -> None:
        """Stop the worker after its call, with unload()."""
        self.stopping = True
        self.problem = "stopping"
        if not self.running:
            self._cancel_timer()
            if self.worker is not None:
                self.worker.call(WorkerCall(Op.UNLOAD, [], self.closing_keys))
            self._detach()
            self.state = SlotState.STOPPED

    def kill(self) -> None:
        """Stop everything immediately."""
        self.stopping = True
        self.running.clear()
        self._cancel_timer()
        self._detach(kill=True)
        self.state = SlotState.STOPPED
        for worker in self.terminating:
            worker.kill()

    @property
    def is_ended(self) -> bool:
        """Whether the slot is stopped, and all of its threads and processes have ended."""
        return self.state is SlotState.STOPPED and not self.terminating

    @property
    def is_responsive(self) -> bool:
        """Whether a loaded worker is here that completed its last call."""
        return self.state in (SlotState.IDLE, SlotState.BUSY) and not self.problem

    def speak(self) -> None:
        """Log losses from now on, and the one that was kept during the start."""
        self.quiet = False
        if self.consecutive_failures:
            self._log_loss(self.problem)

    # -- what the worker says --------------------------------------------------------------------------------------

    def on_reply(self, worker: Worker, reply: WorkerReply) -> None:
        running = self.running.get(reply.id)
        if worker is not self.worker or running is None:
            return
        if running.work is not None:
            if running.overdue and reply.fault is not None:
                self.owner.on_timeout(self, running.work, running.overdue)
            else:
                self.owner.on_reply(self, running.work, reply)
        elif reply.fault is not None and running.op is not Op.LOAD:
            self.log.warning("worker %d: %s failed: %s", self.index, running.op, reply.fault.detail)
        if not reply.done:
            if running.op is Op.LOAD:
                self._await_first_call(running)
            elif self.running.free_places(running, reply):
                self.owner.on_slots_changed()
            return
        if reply.spans_lost:
            self.observer.spans_lost(reply.spans_lost)
        self.running.remove(reply.id)
        if running.op is Op.LOAD:
            self._on_loaded(running, reply)
        else:
            self._on_call_done(running, reply)

    def on_exit(self, worker: Worker, cause: str) -> None:
        self.terminating.discard(worker)
        if worker is self.worker:
            self.worker = None
            self._on_worker_lost(LossCause.CRASHED, f"worker {self.index} {cause}")
        elif self.state is SlotState.EXHAUSTED:
            self.start()
        else:
            self.owner.on_slots_changed()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _call(self, call: WorkerCall, work: WorkT | None, timeout_s: float) -> None:
        assert self.worker is not None
        if call.op is not Op.LOAD:
            self.state = SlotState.BUSY
        now = self.clock.now()
        timer = self.clock.call_at(now + timeout_s, partial(self._on_timeout, call.id, timeout_s))
        items = len(call.items) if call.id else 0
        self.running.add(call.id, RunningCall(call.op, work, timer, now, items))
        self.worker.call(call)

    def _await_first_call(self, running: RunningCall[WorkT]) -> None:
        running.timer.cancel()
        self.loading = False
        timeout_s = max(self.config.timeout_s(SILENCE_S), self.settings.first_call_timeout_s)
        running.timer = self.clock.call_at(self.clock.now() + timeout_s, partial(self._on_timeout, 0, timeout_s))

    def _on_loaded(self, running: RunningCall[WorkT], reply: WorkerReply) -> None:
        if reply.fault is not None:
            self.load_error = "" if reply.fault.detail in reply.fault.line else reply.fault.detail
            self._on_worker_lost(LossCause.LOAD_FAILED, f"worker {self.index}: {reply.fault.line}", kill=False)
            return
        seconds = self.clock.now() - running.started_at
        self.log.info("worker %d: ready after %.2f s", self.index, seconds)
        self.observer.worker_started(self.index, seconds)
        self.problem = ""
        self._become_idle()

    def _on_call_done(self, running: RunningCall[WorkT], reply: WorkerReply) -> None:
        limit = self.config.memory_limit_mb * 2**20
        if limit and reply.rss > limit:
            self.over_limit = (
                f"worker {self.index} uses {reply.rss >> 20} MiB, its limit is {self.config.memory_limit_mb} MiB"
            )
        if self.over_limit and not self.running:
            self._on_worker_lost(LossCause.MEMORY, self.over_limit)
            return
        if reply.fault is None:
            self.consecutive_failures = 0
            self.problem = ""
        elif running.op is Op.HEALTH_CHECK:
            reason = running.overdue or _last_line(reply.fault.detail)
            self.problem = f"worker {self.index} failed its health check: {reason}"
        if self.running:
            self.owner.on_slots_changed()
        else:
            self._become_idle()

    def _become_idle(self) -> None:
        """Become idle; schedule the health check."""
        if self.stopping:
            self.stop()
            self.owner.on_slots_changed()
            return
        self.state = SlotState.IDLE
        if self.closing_keys:
            self.close([])
            return
        self._timer = asyncio.get_running_loop().call_later(self.settings.canary_interval_s, self._check_health)
        self.owner.on_slots_changed()

    def _check_health(self) -> None:
        self._call(WorkerCall(Op.HEALTH_CHECK, id=self.running.next_id()), None, self.config.timeout_s(SILENCE_S))

    def _on_timeout(self, call: int, timeout_s: float) -> None:
        running = self.running.get(call)
        assert running is not None
        if running.op is Op.LOAD:
            self._on_worker_lost(
                LossCause.LOAD_FAILED,
                f"worker {self.index}: {'load() and warm()' if self.loading else FIRST_CALL} took more than "
                f"{timeout_s:g} s",
            )
            return
        reason = f"worker {self.index} did not answer within {timeout_s:.3g} s"
        if not call:
            self._on_worker_lost(LossCause.HUNG, reason)
        elif not running.overdue:
            running.overdue = reason
            running.timer = self.clock.call_at(
                self.clock.now() + CANCEL_TIMEOUT_S, partial(self._on_timeout, call, CANCEL_TIMEOUT_S)
            )
            assert self.worker is not None
            self.worker.call(WorkerCall(Op.CANCEL, id=call))
        else:
            reason = f"{running.overdue}, and did not cancel the call within {timeout_s:g} s"
            self._on_worker_lost(LossCause.HUNG, reason)

    def _on_worker_lost(self, cause: LossCause, reason: str, *, kill: bool = True) -> None:
        """Handle the loss of the worker, or give it up; schedule another one."""
        work = self.running.clear()
        self._cancel_timer()
        self._detach(kill=kill)
        self.problem = self.last_loss = reason
        follows = self._schedule_restart(self._restart_delay(cause))
        if not self.quiet:
            self._log_loss(reason + follows)
        self.observer.worker_lost(self.index, cause)
        self.owner.on_worker_lost(self, work, cause, reason)
        self.owner.on_slots_changed()

    def _log_loss(self, text: str) -> None:
        # Formatted before the call: the rate limit compares messages, and causes differ.
        detail = self.load_error
        self.log.error(f"{text}\n{detail}" if detail else text, extra={"detail": detail})

    def _schedule_restart(self, delay: float) -> str:
        """Schedule another worker after `delay` seconds, unless too many threads are hung. Return text for the log."""
        follows = ""
        hung = len(self.terminating) if self.config.executor == "thread" else 0
        if self.stopping:
            self.state = SlotState.STOPPED
        elif hung >= self.settings.max_hung_threads:
            self.state = SlotState.EXHAUSTED
            follows = (
                f"; {hung} threads are hung and cannot be terminated: use executor='process' for a model that can hang"
            )
        elif delay:
            self.state = SlotState.BACKOFF
            follows = f"; failure {self.consecutive_failures} in a row, restarting in {delay:g} s"
            self._timer = asyncio.get_running_loop().call_later(delay, self.start)
        else:
            self.start()
        self.problem += follows
        return follows

    def _restart_delay(self, cause: LossCause) -> float:
        """Return the pause before the restart: none for the first failure, or after exceeding the memory limit."""
        if cause is LossCause.MEMORY:
            return 0.0
        self.consecutive_failures += 1
        if self.consecutive_failures == 1 and cause is not LossCause.LOAD_FAILED:
            return 0.0
        base, max_delay_s = self.settings.restart_backoff_s, self.settings.max_restart_backoff_s
        return float(min(max_delay_s, base * 2 ** min(max(0, self.consecutive_failures - 2), 30)))

    def _detach(self, *, kill: bool = False) -> None:
        """Detach the worker; it is remembered until its thread has ended."""
        if self.worker is None:
            return
        self.terminating.add(self.worker)
        if kill:
            self.worker.kill()
        else:
            self.worker.stop()
        self.worker = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no detail"])[-1][:300]
