"""The inference engine: queues jobs of sessions, sends batches to workers, and delivers the outcomes."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from streamer.clock import Clock, LoopClock
from streamer.errors import Overloaded
from streamer.inference.affinity import AffinityTable
from streamer.inference.contract import DeliverOutcome, EngineDepth, Readiness
from streamer.inference.entries import QueuedEntry, RunningBatch
from streamer.inference.faults import STOPPING, UNANSWERED, fault_of_loss
from streamer.inference.model_config import ModelConfig
from streamer.inference.model_runner import ModelSource, PreloadedSource
from streamer.inference.observer import CallOutcome, DropCause, EngineObserver, LossCause, WorkerObserver
from streamer.inference.scaling import Work
from streamer.inference.scheduler import Batch, BatchLimits, JobToken, Scheduler
from streamer.inference.settings import EngineSettings, RaySettings
from streamer.inference.worker_pool import WorkerPool
from streamer.inference.worker_protocol import Answer, Fault, InferenceItem, WorkerReply
from streamer.inference.worker_slot import SlotState, Spawn, WorkerSlot
from streamer.session.actions import Job, JobFailed, JobId, JobKind, Outcome, Output, Shed

SECONDS_PER_ITEM_WEIGHT = 0.1
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
        self.model = config = ModelConfig.of(model)
        if config.executor == "thread":
            source = PreloadedSource(source, model)
        self._settings = settings = settings or EngineSettings()
        self._clock = clock = clock or LoopClock()
        self._observer = observer or EngineObserver()
        self._log = log or logging.getLogger("streamer.inference")
        run = config if workers is None else replace(config, workers=workers, min_workers=workers)
        self._pool: WorkerPool[RunningBatch] = WorkerPool(
            source, run, settings, clock, self._observer, self._log, spawn, worker_observer, ray, self._work
        )
        self._scheduler = Scheduler(
            BatchLimits(
                size=config.max_batch_size,
                seconds=config.max_batch_seconds,
                wait_s=config.max_batch_wait_ms / 1000,
                serial=config.stateful,
                max_items=settings.max_pending_items,
                max_seconds=settings.max_pending_seconds,
                concurrent=config.max_concurrent,
            )
        )
        self._affinity = AffinityTable()
        self._tokens = itertools.count()
        self._entries: dict[JobToken, QueuedEntry] = {}
        self._jobs_of: defaultdict[str, dict[JobId, QueuedEntry]] = defaultdict(dict)
        self._sessions: set[str] = set()
        self._running_items = 0
        self._seconds_per_item = 0.0
        self._pass_handle: asyncio.Handle | None = None
        self._wakeup_timer: asyncio.TimerHandle | None = None
        self._stopping = False

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load and warm every worker. Raises ModelLoadError where none can be."""
        await self._pool.start(self)

    async def stop(self, timeout_s: float) -> None:
        """Stop the workers.

        Queued jobs fail; running ones fail if they do not finish in time, and their worker is killed.
        """
        self._stopping = True
        for handle in (self._pass_handle, self._wakeup_timer):
            if handle is not None:
                handle.cancel()
        for entry in list(self._entries.values()):
            if self._scheduler.remove(entry.token):
                self._fail(entry, STOPPING)
        await self._pool.stop(timeout_s)
        for entry in list(self._entries.values()):
            self._fail(entry, STOPPING)
        self._running_items = 0
        await asyncio.sleep(0)  # so that the last outcomes are delivered

    # -- how it stands ---------------------------------------------------------------------------------------------

    @property
    def readiness(self) -> Readiness:
        return self._pool.readiness

    @property
    def depth(self) -> EngineDepth:
        idle, busy = self._pool.count(SlotState.IDLE), self._pool.count(SlotState.BUSY)
        return EngineDepth(
            pending_items=len(self._scheduler),
            pending_seconds=self._scheduler.seconds,
            running_items=self._running_items,
            workers_idle=idle,
            workers_busy=busy,
            workers_down=len(self._pool.slots) - idle - busy - self._pool.count(SlotState.PARKED),
            load=min(1.0, self._load()),
        )

    def check_admission(self) -> None:
        """Raise Overloaded if no worker is available, the queue is full, or the expected wait is too long.

        Interims do not count, because they can be dropped.
        """
        if not self._pool.responsive_slots():
            raise Overloaded("no model worker is available", retry_after_s=5.0)
        if self._load() >= 1.0:
            raise Overloaded("the inference queue is full", retry_after_s=min(60.0, max(1.0, self._expected_wait_s())))

    def _work(self) -> Work:
        return Work(self._scheduler.required_count * self._seconds_per_item, self._affinity.load)

    def _expected_wait_s(self) -> float:
        """Return the expected wait of a new job, by recent calls, as if there were one worker at least."""
        return self._scheduler.required_count * self._seconds_per_item / max(1, len(self._pool.responsive_slots()))

    def _load(self) -> float:
        """Return the queue as a share of its limits; at 1 and above, new sessions are refused."""
        settings, waiting = self._settings, self._scheduler
        return max(
            waiting.required_count / settings.max_pending_items,
            waiting.required_seconds / settings.max_pending_seconds,
            self._expected_wait_s() / settings.max_expected_wait_s,
        )

    # -- what sessions ask -----------------------------------------------------------------------------------------

    def submit(self, job: Job, deliver: DeliverOutcome) -> None:
        """Queue a job. `deliver` is never called during this call or any other one."""
        jobs = self._jobs_of[job.session_id]
        if job.id in jobs:
            raise ValueError(f"job {job.id} of session {job.session_id} was submitted before")
        entry = QueuedEntry(next(self._tokens), job, deliver, self._clock.now())
        jobs[job.id] = self._entries[entry.token] = entry
        self._sessions.add(job.session_id)
        if self.model.stateful:
            self._affinity.add_job(entry.stream_key)
        if self._stopping:
            asyncio.get_running_loop().call_soon(self._fail, entry, STOPPING)
        else:
            self._enqueue(entry)

    def cancel(self, session_id: str, job: JobId) -> None:
        """Cancel a job: no outcome follows."""
        entry = self._jobs_of.get(session_id, {}).get(job)
        if entry is not None:
            self._cancel(entry)

    def release(self, session_id: str, stream: int | None = None) -> None:
        """Close the states of a stream after its jobs have ended. For a whole session, its jobs are dropped."""
        if stream is None:
            for entry in list(self._jobs_of.get(session_id, {}).values()):
                self._cancel(entry)
            self._sessions.discard(session_id)
            self._scheduler.forget(session_id)
        for stream_key, worker in self._affinity.release(session_id, stream):
            self._pool.slots[worker].close([stream_key])

    # -- what slots tell -------------------------------------------------------------------------------------------

    def on_reply(self, slot: WorkerSlot[RunningBatch], work: RunningBatch, reply: WorkerReply) -> None:
        for answer in reply.answers:
            self._on_answer(work.entries[answer.index], answer)
        if not reply.done:
            if reply.fault is not None:
                self._log.warning("worker %d: closing a state failed: %s", slot.index, reply.fault.detail)
            return
        self._finish_batch(slot, work, CallOutcome.ANSWERED if reply.fault is None else CallOutcome.RAISED)
        # The cause of an uncaught error is unknown, so each item is retried alone, unless its state has changed.
        again = reply.fault is not None and len(work.entries) > 1 and not self.model.stateful
        for entry in work.entries:
            if entry.is_ended:
                continue
            if again and not entry.has_audio:
                self._retry(entry)
            else:
                self._fail(entry, reply.fault or UNANSWERED)

    def on_timeout(self, slot: WorkerSlot[RunningBatch], work: RunningBatch, reason: str) -> None:
        self._finish_batch(slot, work, CallOutcome.HUNG)
        for entry in work.entries:
            if not entry.is_ended:
                self._fail(entry, self._fault_of_loss(entry, LossCause.HUNG, reason))

    def on_worker_lost(
        self, slot: WorkerSlot[RunningBatch], work: Sequence[RunningBatch], cause: LossCause, reason: str
    ) -> None:
        self._affinity.remove_worker(slot.index)
        overlaps = self.model.max_concurrent > 0
        # If calls overlapped, the one that crashed or hung is unknown, so each job is retried on a worker of its own.
        again = not self.model.stateful and (cause is LossCause.CRASHED or len(work) > 1)
        for batch in work:
            self._finish_batch(slot, batch, CallOutcome.HUNG if cause is LossCause.HUNG else CallOutcome.CRASHED)
            for entry in batch.entries:
                if entry.is_ended:
                    continue
                if again and entry.can_be_retried(overlaps=overlaps):
                    entry.needs_own_worker = overlaps
                    self._retry(entry)
                else:
                    self._fail(entry, self._fault_of_loss(entry, cause, reason))

    def on_slots_changed(self) -> None:
        self._pool.notify_changed()
        if len(self._scheduler):
            self._schedule_pass()

    # -- the way of a job ------------------------------------------------------------------------------------------

    def _enqueue(self, entry: QueuedEntry) -> None:
        for token, cause in self._scheduler.add(entry.queued()):
            self._shed(self._entries[token], cause)
        self._schedule_pass()

    def _schedule_pass(self) -> None:
        """Schedule a pass for the end of this loop iteration, after all jobs have arrived."""
        if self._pass_handle is None and not self._stopping:
            self._pass_handle = asyncio.get_running_loop().call_soon(self._run_pass)

    def _run_pass(self) -> None:
        """Start the batches of the scheduler, and set the timer of the next pass."""
        self._pass_handle = None
        if self._wakeup_timer is not None:
            self._wakeup_timer.cancel()
            self._wakeup_timer = None
        again = True
        while again:  # workers whose calls overlap may have room for more
            again = self._start_batches()

    def _start_batches(self) -> bool:
        """Start at most one batch on each worker. Return whether to try again at once."""
        idle = self._pool.idle_slots()
        if self._stopping or not idle or not len(self._scheduler):
            return False
        if self.model.stateful:
            self._affinity.assign(self._pool.staying())
        now = self._clock.now()
        expecting = len(self._sessions) > self._scheduler.session_count
        plan = self._scheduler.plan(
            [slot.index for slot in idle],
            now,
            expecting=expecting,
            assignments=self._affinity.assignments,
            room={slot.index: slot.room for slot in idle} if self.model.max_concurrent else None,
        )
        for batch in plan.batches:
            self._start_batch(batch, now)
        if plan.next_wakeup is not None:
            self._wakeup_timer = asyncio.get_running_loop().call_later(plan.next_wakeup - now, self._run_pass)
        return bool(plan.batches) and self.model.max_concurrent > 0

    def _start_batch(self, batch: Batch, now: float) -> None:
        waiting = self._scheduler.start(batch)
        entries = [self._entries[item.token] for item in waiting]
        jobs = [entry.job for entry in entries]
        if self.model.stateful:
            for entry in entries:
                entry.state_lost = self._affinity.start_job(entry.stream_key)
        self._running_items += len(entries)
        trace = self._observer.batch_started(batch.worker, jobs, [now - item.queued_at for item in waiting])
        items = [InferenceItem.of(job) for job in jobs]
        seconds = sum([item.seconds for item in waiting])
        self._pool.slots[batch.worker].run(
            items,
            RunningBatch(entries, jobs, now, self._clock.paused_s),
            seconds,
            trace,
            alone=entries[0].needs_own_worker,
        )

    def _finish_batch(self, slot: WorkerSlot[RunningBatch], flight: RunningBatch, outcome: CallOutcome) -> None:
        seconds = self._clock.now() - flight.started_at
        worked_s = seconds - (self._clock.paused_s - flight.paused_s)
        self._running_items -= len(flight.entries)
        self._scheduler.on_finished([entry.stream_key for entry in flight.entries])
        items = self.model.max_concurrent or len(flight.entries)  # that a worker completes in this time
        self._seconds_per_item += SECONDS_PER_ITEM_WEIGHT * (worked_s / items - self._seconds_per_item)
        self._observer.batch_finished(slot.index, flight.jobs, seconds, outcome)

    def _on_answer(self, entry: QueuedEntry, answer: Answer) -> None:
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
            self._shed(entry, DropCause.CRASHED)
        else:
            entry.was_in_failed_batch = True
            self._enqueue(entry)

    def _fault_of_loss(self, entry: QueuedEntry, cause: LossCause, reason: str) -> Fault:
        """Return the fault of a job whose worker was lost."""
        restarts_at_s: float | None = None
        if self.model.stateful:
            self._affinity.mark_loss_reported(entry.stream_key)
            restarts_at_s = entry.job.end / entry.job.sample_rate
        return fault_of_loss(reason, hung=cause is LossCause.HUNG, restarts_at_s=restarts_at_s)

    def _cancel(self, entry: QueuedEntry) -> None:
        """Cancel a job. If it runs, it ends with its batch."""
        entry.deliver = None
        self._forget(entry)
        if self._scheduler.remove(entry.token):
            self._end(entry, Shed())

    def _shed(self, entry: QueuedEntry, cause: DropCause) -> None:
        self._observer.interim_dropped(entry.job, cause)
        self._end(entry, Shed(by_overload=cause is DropCause.OVERLOAD))

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
        if entry.is_ended:
            return
        entry.is_ended = True
        del self._entries[entry.token]
        if self.model.stateful and (worker := self._affinity.finish_job(entry.stream_key)) is not None:
            self._pool.slots[worker].close([entry.stream_key])
        self._deliver(entry, outcome)

    def _deliver(self, entry: QueuedEntry, outcome: Outcome) -> None:
        """Deliver an outcome in the next loop iteration, outside of the session's call.

        An error of one receiver then affects nothing else.
        """
        if entry.deliver is not None:
            asyncio.get_running_loop().call_soon(self._call_deliver, entry, outcome)

    def _call_deliver(self, entry: QueuedEntry, outcome: Outcome) -> None:
        deliver = entry.deliver
        if deliver is None:  # cancelled meanwhile
            return
        if entry.is_ended:
            self._forget(entry)
        deliver(entry.job.id, outcome)

    def _forget(self, entry: QueuedEntry) -> None:
        jobs = self._jobs_of.get(entry.job.session_id)
        if jobs is not None and jobs.get(entry.job.id) is entry:
            del jobs[entry.job.id]
            if not jobs:
                del self._jobs_of[entry.job.session_id]
