"""The inference engine: queues jobs of sessions, sends batches to workers, and delivers the outcomes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import msgspec

from streamer.clock import Clock, LoopClock
from streamer.errors import ErrorCode, Overloaded
from streamer.inference.batching import Backlog, Batch, BatchLimits, Ticket, Waiting
from streamer.inference.calls import Answer, Fault, Item, Reply
from streamer.inference.card import ModelCard
from streamer.inference.contract import Deliver, EngineDepth, Readiness
from streamer.inference.entries import QueuedEntry, RunningBatch
from streamer.inference.fleet import Fleet
from streamer.inference.lanes import Lanes
from streamer.inference.observer import Dropped, Ended, EngineObserver, Lost, WorkerObserver
from streamer.inference.outputs import UNCAUGHT
from streamer.inference.scaling import Work
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.inference.slot import Slot, SlotState, Spawn
from streamer.inference.worker import ModelSource, Prebuilt
from streamer.session.actions import Job, JobFailed, JobId, JobKind, Outcome, Output, Shed

STOPPING = Fault(ErrorCode.DRAINING, "the server is stopping")
UNANSWERED = Fault(ErrorCode.MODEL_ERROR, UNCAUGHT, "the call ended without an answer for this item")

PACE_WEIGHT = 0.1
"""Weight of the latest batch in the running mean of seconds per item."""


class Engine:
    """Runs one model for all sessions, in threads, processes or Ray actors. Implements `contract.InferenceEngine`.

    `source`: a `models.loading.ModelSpec`, or an object with a `load()` that builds a model (picklable unless the
    executor is "thread"). The constructor builds the model once to read its attributes, and raises ModelLoadError or
    ConfigError; the first worker thread uses this instance. `workers` overrides the model's number of workers. `spawn`
    creates workers of another kind, for simulations. `ray`: the cluster, if the executor is "ray".
    """

    def __init__(
        self,
        source: ModelSource,
        settings: EngineSettings | None = None,
        *,
        clock: Clock | None = None,
        observer: EngineObserver | None = None,
        worker_observer: Callable[[], WorkerObserver] = WorkerObserver,
        log: logging.Logger | None = None,
        workers: int | None = None,
        spawn: Spawn | None = None,
        ray: RaySettings | None = None,
    ) -> None:
        model = source.load()
        self.model = card = ModelCard.of(model)
        if card.executor == "thread":
            source = Prebuilt(source, model)
        self._settings = settings = settings or EngineSettings()
        self._clock = clock = clock or LoopClock()
        self._observer = observer or EngineObserver()
        self._log = log or logging.getLogger("streamer.inference")
        run = card if workers is None else replace(card, workers=workers, min_workers=workers)
        self._fleet: Fleet[RunningBatch] = Fleet(
            source, run, settings, clock, self._observer, self._log, spawn, worker_observer, ray, self._work
        )
        self._backlog = Backlog(
            BatchLimits(
                size=card.max_batch_size,
                seconds=card.max_batch_seconds,
                wait_s=card.max_batch_wait_ms / 1000,
                serial=card.stateful,
                max_items=settings.max_pending_items,
                max_seconds=settings.max_pending_seconds,
            )
        )
        self._lanes = Lanes()
        self._tickets = itertools.count()
        self._entries: dict[Ticket, QueuedEntry] = {}
        self._wanted: defaultdict[str, dict[JobId, QueuedEntry]] = defaultdict(dict)
        self._sessions: set[str] = set()
        self._running_items = 0
        self._seconds_per_item = 0.0
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._stopping = False

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load and warm every worker. Raises ModelLoadError where none can be."""
        await self._fleet.start(self)

    async def stop(self, timeout_s: float) -> None:
        """Stop the workers.

        Queued jobs fail; running ones fail if they do not finish in time, and their worker is killed.
        """
        self._stopping = True
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        for entry in list(self._entries.values()):
            if self._backlog.remove(entry.ticket):
                self._fail(entry, STOPPING)
        await self._fleet.stop(timeout_s)
        for entry in list(self._entries.values()):
            self._fail(entry, STOPPING)
        self._running_items = 0
        await asyncio.sleep(0)  # so that the last outcomes are delivered

    # -- how it stands ---------------------------------------------------------------------------------------------

    @property
    def readiness(self) -> Readiness:
        return self._fleet.readiness

    @property
    def depth(self) -> EngineDepth:
        idle, busy = self._fleet.count(SlotState.IDLE), self._fleet.count(SlotState.BUSY)
        return EngineDepth(
            pending_items=len(self._backlog),
            pending_seconds=self._backlog.seconds,
            running_items=self._running_items,
            workers_idle=idle,
            workers_busy=busy,
            workers_down=len(self._fleet.slots) - idle - busy - self._fleet.count(SlotState.PARKED),
            load=min(1.0, self._load()),
        )

    def check_admission(self) -> None:
        """Raise Overloaded if no worker is available, the queue is full, or the expected wait is too long.

        Interims do not count, because they can be dropped.
        """
        if not self._fleet.answering():
            raise Overloaded("no model worker is available", retry_after_s=5.0)
        if self._load() >= 1.0:
            raise Overloaded("the inference queue is full", retry_after_s=min(60.0, max(1.0, self._expected_wait_s())))

    def _work(self) -> Work:
        return Work(self._backlog.owed * self._seconds_per_item, self._lanes.load)

    def _expected_wait_s(self) -> float:
        """Return the expected wait of a new job, by recent calls, as if there were one worker at least."""
        return self._backlog.owed * self._seconds_per_item / max(1, len(self._fleet.answering()))

    def _load(self) -> float:
        """Return the queue as a share of its limits; at 1 and above, new sessions are refused."""
        settings, waiting = self._settings, self._backlog
        return max(
            waiting.owed / settings.max_pending_items,
            waiting.owed_seconds / settings.max_pending_seconds,
            self._expected_wait_s() / settings.max_expected_wait_s,
        )

    # -- what sessions ask -----------------------------------------------------------------------------------------

    def submit(self, job: Job, deliver: Deliver) -> None:
        """Queue a job. `deliver` is never called during this call or any other one."""
        wanted = self._wanted[job.session_id]
        if job.id in wanted:
            raise ValueError(f"job {job.id} of session {job.session_id} was submitted before")
        entry = QueuedEntry(next(self._tickets), job, deliver, self._clock.now())
        wanted[job.id] = self._entries[entry.ticket] = entry
        self._sessions.add(job.session_id)
        if self.model.stateful:
            self._lanes.enter(entry.lane)
        if self._stopping:
            asyncio.get_running_loop().call_soon(self._fail, entry, STOPPING)
        else:
            self._queue(entry)

    def cancel(self, session_id: str, job: JobId) -> None:
        """Cancel a job: no outcome follows."""
        entry = self._wanted.get(session_id, {}).get(job)
        if entry is not None:
            self._drop(entry)

    def release(self, session_id: str, stream: int | None = None) -> None:
        """Close the states of a stream after its jobs have ended. For a whole session, its jobs are dropped."""
        if stream is None:
            for entry in list(self._wanted.get(session_id, {}).values()):
                self._drop(entry)
            self._sessions.discard(session_id)
            self._backlog.forget(session_id)
        for lane, home in self._lanes.release(session_id, stream):
            self._fleet.slots[home].close([lane])

    # -- what slots tell -------------------------------------------------------------------------------------------

    def replied(self, slot: Slot[RunningBatch], work: RunningBatch, reply: Reply) -> None:
        for answer in reply.answers:
            self._answer(work.entries[answer.index], answer)
        if not reply.done:
            if reply.fault is not None:
                self._log.warning("worker %d: closing a state failed: %s", slot.index, reply.fault.detail)
            return
        self._landed(slot, work, Ended.ANSWERED if reply.fault is None else Ended.RAISED)
        # The cause of an uncaught error is unknown, so each item is retried alone, unless its state has changed.
        again = reply.fault is not None and len(work.entries) > 1 and not self.model.stateful
        for entry in work.entries:
            if entry.ended:
                continue
            if again and not entry.has_audio:
                self._retry(entry)
            else:
                self._fail(entry, reply.fault or UNANSWERED)

    def lost(self, slot: Slot[RunningBatch], work: RunningBatch | None, cause: Lost, words: str) -> None:
        self._lanes.lose(slot.index)
        if work is None:
            return
        self._landed(slot, work, Ended.HUNG if cause is Lost.HUNG else Ended.CRASHED)
        for entry in work.entries:
            if entry.ended:
                continue
            if cause is Lost.CRASHED and not (self.model.stateful or entry.tried or entry.has_audio):
                self._retry(entry)
            else:
                self._fail(entry, self._loss(entry, cause, words))

    def changed(self) -> None:
        self._fleet.changed()
        if len(self._backlog):
            self._look_soon()

    # -- the way of a job ------------------------------------------------------------------------------------------

    def _queue(self, entry: QueuedEntry) -> None:
        job = entry.job
        waiting = Waiting(entry.ticket, entry.lane, job.kind, job.segment_id, job.seconds, entry.since, entry.tried)
        for ticket, cause in self._backlog.add(waiting):
            self._shed(self._entries[ticket], cause)
        self._look_soon()

    def _look_soon(self) -> None:
        """Schedule a pass for the end of this loop iteration, after all jobs have arrived."""
        if self._soon is None and not self._stopping:
            self._soon = asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Start the batches of the scheduler, and set the timer of the next pass."""
        self._soon = None
        if self._later is not None:
            self._later.cancel()
            self._later = None
        idle = self._fleet.idle()
        if self._stopping or not idle or not len(self._backlog):
            return
        if self.model.stateful:
            self._lanes.settle(self._fleet.staying())
        now = self._clock.now()
        expecting = len(self._sessions) > self._backlog.sessions
        plan = self._backlog.plan([slot.index for slot in idle], now, expecting=expecting, homes=self._lanes.homes)
        for batch in plan.batches:
            self._launch(batch, now)
        if plan.look_at is not None:
            self._later = asyncio.get_running_loop().call_later(plan.look_at - now, self._look)

    def _launch(self, batch: Batch, now: float) -> None:
        waiting = self._backlog.start(batch)
        entries = [self._entries[item.ticket] for item in waiting]
        jobs = [entry.job for entry in entries]
        if self.model.stateful:
            for entry in entries:
                entry.state_lost = self._lanes.open(entry.lane)
        self._running_items += len(entries)
        trace = self._observer.batch_started(batch.worker, jobs, [now - item.since for item in waiting])
        items = [Item.of(job) for job in jobs]
        seconds = sum([item.seconds for item in waiting])
        self._fleet.slots[batch.worker].run(
            items, RunningBatch(entries, jobs, now, self._clock.paused_s), seconds, trace
        )

    def _landed(self, slot: Slot[RunningBatch], flight: RunningBatch, ended: Ended) -> None:
        seconds = self._clock.now() - flight.since
        worked_s = seconds - (self._clock.paused_s - flight.paused_s)
        self._running_items -= len(flight.entries)
        self._backlog.done([entry.lane for entry in flight.entries])
        self._seconds_per_item += PACE_WEIGHT * (worked_s / len(flight.entries) - self._seconds_per_item)
        self._observer.batch_finished(slot.index, flight.jobs, seconds, ended)

    def _answer(self, entry: QueuedEntry, answer: Answer) -> None:
        if answer.fault is not None:
            self._fail(entry, answer.fault)
            return
        output = Output(msgspec.Raw(answer.value), answer.partial, entry.state_lost, answer.audio)
        if answer.partial:
            entry.has_audio = entry.has_audio or len(answer.audio) > 0
            self._deliver(entry, output)
        else:
            self._end(entry, output)

    def _retry(self, entry: QueuedEntry) -> None:
        """Retry a job by itself. Interims are not retried, because a newer one follows."""
        if self._stopping:
            self._fail(entry, STOPPING)
        elif entry.deliver is None:  # cancelled while it ran
            self._end(entry, Shed())
        elif entry.job.kind is JobKind.INTERIM:
            self._shed(entry, Dropped.CRASHED)
        else:
            entry.tried = True
            self._queue(entry)

    def _loss(self, entry: QueuedEntry, cause: Lost, words: str) -> Fault:
        """Return the fault of a job whose worker was lost."""
        hung = cause is Lost.HUNG
        message = "the model took too long for this segment" if hung else "the model crashed on this segment"
        if self.model.stateful:
            self._lanes.told(entry.lane)
            position_s = entry.job.end / entry.job.sample_rate
            message += f"; the model's state for this stream was lost, processing restarts at {position_s:.3f} s"
        return Fault(ErrorCode.MODEL_TIMEOUT if hung else ErrorCode.MODEL_CRASHED, message, words, words)

    def _drop(self, entry: QueuedEntry) -> None:
        """Cancel a job. If it runs, it ends with its batch."""
        entry.deliver = None
        self._unlist(entry)
        if self._backlog.remove(entry.ticket):
            self._end(entry, Shed())

    def _shed(self, entry: QueuedEntry, cause: Dropped) -> None:
        self._observer.interim_dropped(entry.job, cause)
        self._end(entry, Shed(overload=cause is Dropped.OVERLOAD))

    def _fail(self, entry: QueuedEntry, fault: Fault) -> None:
        if entry.deliver is not None:
            job, detail = entry.job, fault.detail or fault.code
            ids = {"session_id": job.session_id, "line": fault.line, "detail": fault.detail}
            self._log.warning(
                "job %d of session %s failed: %s: %s", job.id, job.session_id, fault.message, detail, extra=ids
            )
            self._observer.job_failed(job, fault.code)
        self._end(entry, JobFailed(fault.code, fault.message))

    def _end(self, entry: QueuedEntry, outcome: Outcome) -> None:
        """End a job with its last outcome."""
        if entry.ended:
            return
        entry.ended = True
        del self._entries[entry.ticket]
        if self.model.stateful and (home := self._lanes.leave(entry.lane)) is not None:
            self._fleet.slots[home].close([entry.lane])
        self._deliver(entry, outcome)

    def _deliver(self, entry: QueuedEntry, outcome: Outcome) -> None:
        """Deliver an outcome in the next loop iteration, outside of the session's call.

        An error of one receiver then affects nothing else.
        """
        if entry.deliver is not None:
            asyncio.get_running_loop().call_soon(self._hand_over, entry, outcome)

    def _hand_over(self, entry: QueuedEntry, outcome: Outcome) -> None:
        deliver = entry.deliver
        if deliver is None:  # cancelled meanwhile
            return
        if entry.ended:
            self._unlist(entry)
        deliver(entry.job.id, outcome)

    def _unlist(self, entry: QueuedEntry) -> None:
        wanted = self._wanted.get(entry.job.session_id)
        if wanted is not None and wanted.get(entry.job.id) is entry:
            del wanted[entry.job.id]
            if not wanted:
                del self._wanted[entry.job.session_id]
