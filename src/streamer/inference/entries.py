"""Jobs in the engine, from their submission to their last outcome, and the batches they run in."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.inference.contract import DeliverOutcome
from streamer.inference.scheduler import JobToken, QueuedJob, StreamKey
from streamer.session.actions import Job


@dataclass(slots=True, eq=False)
class QueuedEntry:
    """A job and its receiver. `deliver`: None if it was cancelled. `is_ended`: its last outcome is known.

    `was_in_failed_batch`: it was in a batch that failed as a whole. `state_lost`: its model's state was lost before.
    `has_audio`: a part of its answer's audio was delivered, so it cannot be retried. `needs_own_worker`: it was on a
    worker that was lost with overlapping calls.
    """

    token: JobToken
    job: Job
    deliver: DeliverOutcome | None
    submitted_at: float
    was_in_failed_batch: bool = False
    state_lost: bool = False
    is_ended: bool = False
    has_audio: bool = False
    needs_own_worker: bool = False

    @property
    def stream_key(self) -> StreamKey:
        return (self.job.session_id, self.job.stream, self.job.channel)

    def queued(self) -> QueuedJob:
        """Return the job as the scheduler knows it."""
        job = self.job
        return QueuedJob(
            self.token,
            self.stream_key,
            job.kind,
            job.segment_id,
            job.seconds,
            self.submitted_at,
            self.was_in_failed_batch,
            self.needs_own_worker,
        )

    def can_be_retried(self, *, overlaps: bool) -> bool:
        """Return whether a loss of its worker may be the fault of another job. `overlaps`: of another call, too."""
        ran_alone = self.needs_own_worker if overlaps else self.was_in_failed_batch
        return not (ran_alone or self.has_audio)


class RunningBatch(msgspec.Struct, frozen=True, eq=False):
    """A running batch. `jobs`: those of its entries. `paused_s`: the clock's pauses at its start."""

    entries: list[QueuedEntry]
    jobs: list[Job]
    started_at: float
    paused_s: float
