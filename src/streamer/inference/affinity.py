"""Worker affinity of stateful models: each channel of each stream has a worker, as long as both exist."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.inference.scheduler import StreamKey


@dataclass(slots=True)
class _StreamAffinity:
    jobs: int = 0
    """Queued or running jobs."""
    has_state: bool = False
    """A worker holds its state."""
    state_lost: bool = False
    """Its state was lost with its worker, which the client does not know yet."""
    is_ending: bool = False
    """Its stream has ended; the state is closed after the last job."""


class AffinityTable:
    """Assigns each stream to the worker with the fewest streams, until it or the worker ends."""

    def __init__(self) -> None:
        self._streams: dict[StreamKey, _StreamAffinity] = {}
        self._of_session: defaultdict[str, set[StreamKey]] = defaultdict(set)
        self._assignments: dict[StreamKey, int] = {}
        self._unassigned: set[StreamKey] = set()
        self._load: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def assignments(self) -> Mapping[StreamKey, int]:
        """Worker of each assigned stream."""
        return self._assignments

    def load(self, worker: int) -> int:
        """Return the number of streams of a worker."""
        return self._load[worker]

    def add_job(self, stream_key: StreamKey) -> None:
        """Count a new job of a stream."""
        stream = self._streams.get(stream_key)
        if stream is None:
            stream = self._streams[stream_key] = _StreamAffinity()
            self._of_session[stream_key[0]].add(stream_key)
        stream.jobs += 1
        if stream_key not in self._assignments:
            self._unassigned.add(stream_key)

    def assign(self, workers: Sequence[int]) -> None:
        """Assign streams without a worker to these workers, the least loaded first."""
        if not workers:
            return
        for stream_key in self._unassigned:
            worker_of = min(workers, key=lambda worker: self._load[worker])
            self._assignments[stream_key] = worker_of
            self._load[worker_of] += 1
        self._unassigned.clear()

    def start_job(self, stream_key: StreamKey) -> bool:
        """Start a job of a stream. Return True if its state was lost before."""
        stream = self._streams[stream_key]
        stream.has_state = True
        state_lost, stream.state_lost = stream.state_lost, False
        return state_lost

    def finish_job(self, stream_key: StreamKey) -> int | None:
        """End a job of a stream. Return the worker that should close its state now, if any."""
        stream = self._streams[stream_key]
        stream.jobs -= 1
        return self._end(stream_key) if stream.is_ending and not stream.jobs else None

    def release(self, session_id: str, stream: int | None) -> list[tuple[StreamKey, int]]:
        """End a stream (None: all streams of the session). Return the states to close now, each with its worker."""
        closing = []
        for stream_key in [key for key in self._of_session.get(session_id, ()) if stream in (None, key[1])]:
            if self._streams[stream_key].jobs:
                self._streams[stream_key].is_ending = True
            elif (worker_of := self._end(stream_key)) is not None:
                closing.append((stream_key, worker_of))
        return closing

    def remove_worker(self, worker: int) -> None:
        """Remove a worker that was lost. Its streams are assigned to others."""
        for stream_key in [key for key, worker_of in self._assignments.items() if worker_of == worker]:
            stream = self._streams[stream_key]
            stream.state_lost = stream.state_lost or stream.has_state
            stream.has_state = False
            del self._assignments[stream_key]
            if stream.jobs:
                self._unassigned.add(stream_key)
        del self._load[worker]

    def mark_loss_reported(self, stream_key: StreamKey) -> None:
        """Note that the client knows of the lost state of a stream."""
        self._streams[stream_key].state_lost = False

    def _end(self, stream_key: StreamKey) -> int | None:
        stream = self._streams.pop(stream_key)
        self._of_session[stream_key[0]].discard(stream_key)
        if not self._of_session[stream_key[0]]:
            del self._of_session[stream_key[0]]
        self._unassigned.discard(stream_key)
        worker_of = self._assignments.pop(stream_key, None)
        if worker_of is None:
            return None
        self._load[worker_of] -= 1
        return worker_of if stream.has_state else None
