"""Pending jobs of a stream, and the memory of their audio."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.session.actions import JobId, JobKind
from streamer.session.segmenter import AudioRange


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A pending job, and the time of its request."""

    job: JobId
    channel: int
    audio_range: AudioRange
    requested_at: float


class OutstandingJobs:
    """Jobs by id. Each has a copy of its audio: finals and pieces have at most `max_bytes` together, or one job.

    Finals and pieces do not wait for interims, whose memory is part of the stored audio's.
    """

    __slots__ = ("_asked", "_interims", "_max_samples", "owed")

    def __init__(self, max_bytes: int) -> None:
        self._asked: dict[JobId, PendingJob] = {}
        self._max_samples = max_bytes // SAMPLE_BYTES
        self._interims = 0
        self.owed = 0
        """Samples in finals and pieces."""

    def __len__(self) -> int:
        return len(self._asked)

    def __getitem__(self, job: JobId) -> PendingJob:
        return self._asked[job]

    @property
    def nbytes(self) -> int:
        """Bytes of audio in all jobs."""
        return (self.owed + self._interims) * SAMPLE_BYTES

    @property
    def owed_bytes(self) -> int:
        """Bytes of audio in finals and pieces."""
        return self.owed * SAMPLE_BYTES

    @property
    def interim_bytes(self) -> int:
        """Bytes of audio in interims."""
        return self._interims * SAMPLE_BYTES

    def has_room(self, samples: int) -> bool:
        """Return whether a final or a piece of this length may be requested."""
        return not self.owed or self.owed + samples <= self._max_samples

    def find(self, job: JobId) -> PendingJob | None:
        return self._asked.get(job)

    def add(self, pending: PendingJob) -> None:
        self._asked[pending.job] = pending
        self._count(pending.audio_range, 1)

    def remove(self, job: JobId) -> None:
        """Remove a job. Raises KeyError if it is not pending."""
        self._count(self._asked.pop(job).audio_range, -1)

    def clear(self) -> list[JobId]:
        """Remove all jobs; return their ids."""
        jobs = list(self._asked)
        self._asked.clear()
        self.owed = self._interims = 0
        return jobs

    def _count(self, audio_range: AudioRange, sign: int) -> None:
        samples = sign * (audio_range.end - audio_range.start)
        if audio_range.kind is JobKind.INTERIM:
            self._interims += samples
        else:
            self.owed += samples
