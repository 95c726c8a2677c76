"""Jobs in the engine, from their submission to their last outcome, and the batches they run in."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.inference.contract import DeliverOutcome
from streamer.inference.scheduler import JobToken, StreamKey
from streamer.session.actions import Job


@dataclass(slots=True, eq=False)
class QueuedEntry:
    """A job and its receiver. `deliver`: None if it was cancelled. `is_ended`: its last outcome is known.

    `was_in_failed_batch`: it was in a batch that failed as a whole. `state_lost`: its model's state was lost before.
    `has_audio`: a part of its answer's audio was delivered, so it cannot be retried.
    """

    token: JobToken
    job: Job
    deliver: DeliverOutcome | None
    submitted_at: float
    was_in_failed_batch: bool = False
    state_lost: bool = False
    is_ended: bool = False
    has_audio: bool = False

    @property
    def stream_key(self) -> StreamKey:
        return (self.job.session_id, self.job.stream, self.job.channel)


class RunningBatch(msgspec.Struct, frozen=True, eq=False):
    """A running batch. `jobs`: those of its entries. `paused_s`: the clock's pauses at its start."""

    entries: list[QueuedEntry]
    jobs: list[Job]
    started_at: float
    paused_s: float
