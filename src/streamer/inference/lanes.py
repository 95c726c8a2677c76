"""Worker affinity of stateful models: each channel of each stream has a worker, as long as both exist."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.inference.batching import Lane


@dataclass(slots=True)
class _Lane:
    jobs: int = 0
    """Queued or running jobs."""
    opened: bool = False
    """A worker holds its state."""
    lost: bool = False
    """Its state was lost with its worker, which the client does not know yet."""
    ending: bool = False
    """Its stream has ended; the state is closed after the last job."""


class Lanes:
    """Assigns each lane to the worker with the fewest lanes, until the stream or the worker ends."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _Lane] = {}
        self._of_session: defaultdict[str, set[Lane]] = defaultdict(set)
        self._homes: dict[Lane, int] = {}
        self._homeless: set[Lane] = set()
        self._load: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def homes(self) -> Mapping[Lane, int]:
        """Worker of each assigned lane."""
        return self._homes

    def load(self, worker: int) -> int:
        """Return the number of lanes of a worker."""
        return self._load[worker]

    def enter(self, lane: Lane) -> None:
        """Count a new job of a lane."""
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = _Lane()
            self._of_session[lane[0]].add(lane)
        known.jobs += 1
        if lane not in self._homes:
            self._homeless.add(lane)

    def settle(self, workers: Sequence[int]) -> None:
        """Assign lanes without a worker to these workers, the least loaded first."""
        if not workers:
            return
        for lane in self._homeless:
            home = min(workers, key=lambda worker: self._load[worker])
            self._homes[lane] = home
            self._load[home] += 1
        self._homeless.clear()

    def open(self, lane: Lane) -> bool:
        """Start a job of a lane. Return True if its state was lost before."""
        known = self._lanes[lane]
        known.opened = True
        lost, known.lost = known.lost, False
        return lost

    def leave(self, lane: Lane) -> int | None:
        """End a job of a lane. Return the worker that should close its state now, if any."""
        known = self._lanes[lane]
        known.jobs -= 1
        return self._end(lane) if known.ending and not known.jobs else None

    def release(self, session_id: str, stream: int | None) -> list[tuple[Lane, int]]:
        """End a stream (None: all streams of the session). Return the states to close now, each with its worker."""
        closing = []
        for lane in [lane for lane in self._of_session.get(session_id, ()) if stream in (None, lane[1])]:
            if self._lanes[lane].jobs:
                self._lanes[lane].ending = True
            elif (home := self._end(lane)) is not None:
                closing.append((lane, home))
        return closing

    def lose(self, worker: int) -> None:
        """Remove a worker that was lost. Its lanes are assigned to others."""
        for lane in [lane for lane, home in self._homes.items() if home == worker]:
            known = self._lanes[lane]
            known.lost = known.lost or known.opened
            known.opened = False
            del self._homes[lane]
            if known.jobs:
                self._homeless.add(lane)
        del self._load[worker]

    def told(self, lane: Lane) -> None:
        """Note that the client knows of the lost state of a lane."""
        self._lanes[lane].lost = False

    def _end(self, lane: Lane) -> int | None:
        known = self._lanes.pop(lane)
        self._of_session[lane[0]].discard(lane)
        if not self._of_session[lane[0]]:
            del self._of_session[lane[0]]
        self._homeless.discard(lane)
        home = self._homes.pop(lane, None)
        if home is None:
            return None
        self._load[home] -= 1
        return home if known.opened else None
