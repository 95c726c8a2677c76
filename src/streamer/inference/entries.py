"""Jobs in the engine, from their submission to their last outcome, and the batches they run in."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from streamer.inference.batching import Lane, Ticket
from streamer.inference.contract import Deliver
from streamer.session.actions import Job


@dataclass(slots=True, eq=False)
class QueuedEntry:
    """A job and its receiver. `deliver`: None if it was cancelled. `ended`: its last outcome is known.

    `tried`: it was in a batch that failed as a whole. `state_lost`: its model's state was lost before. `has_audio`: a
    part of its answer's audio was delivered, so it cannot be retried.
    """

    ticket: Ticket
    job: Job
    deliver: Deliver | None
    since: float
    tried: bool = False
    state_lost: bool = False
    ended: bool = False
    has_audio: bool = False

    @property
    def lane(self) -> Lane:
        return (self.job.session_id, self.job.stream, self.job.channel)


class RunningBatch(msgspec.Struct, frozen=True, eq=False):
    """A running batch. `jobs`: those of its entries. `paused_s`: the clock's pauses at its start."""

    entries: list[QueuedEntry]
    jobs: list[Job]
    since: float
    paused_s: float
