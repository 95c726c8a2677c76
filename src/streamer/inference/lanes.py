"""Where the states of stateful models live: each channel of each stream has a worker, for as long as both live."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.inference.batching import Lane


@dataclass(slots=True)
class _Lane:
    jobs: int = 0
    """Waiting or running."""
    opened: bool = False
    """A worker holds a state for it."""
    lost: bool = False
    """The state went with its worker, and nobody was told yet."""
    ending: bool = False
    """Its stream is over; the state goes with the last job."""


class Lanes:
    """Homes of states: the worker with the fewest when first needed, kept until the stream or the worker ends."""

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
        """The worker of each lane that has one."""
        return self._homes

    def load(self, worker: int) -> int:
        """How many lanes live there."""
        return self._load[worker]

    def enter(self, lane: Lane) -> None:
        """A job of this lane has come."""
        known = self._lanes.get(lane)
        if known is None:
            known = self._lanes[lane] = _Lane()
            self._of_session[lane[0]].add(lane)
        known.jobs += 1
        if lane not in self._homes:
            self._homeless.add(lane)

    def settle(self, workers: Sequence[int]) -> None:
        """Give lanes without a home one of these workers, the least loaded first."""
        if not workers:
            return
        for lane in self._homeless:
            home = min(workers, key=lambda worker: self._load[worker])
            self._homes[lane] = home
            self._load[home] += 1
        self._homeless.clear()

    def open(self, lane: Lane) -> bool:
        """A job of this lane starts. True where it begins anew because its state was lost."""
        known = self._lanes[lane]
        known.opened = True
        lost, known.lost = known.lost, False
        return lost

    def leave(self, lane: Lane) -> int | None:
        """A job of this lane has ended. Returns the worker that should close its state now, if any."""
        known = self._lanes[lane]
        known.jobs -= 1
        return self._end(lane) if known.ending and not known.jobs else None

    def release(self, session_id: str, stream: int | None) -> list[tuple[Lane, int]]:
        """The stream (None: all of the session) is over. Returns the states to close now, each with its worker."""
        closing = []
        for lane in [lane for lane in self._of_session.get(session_id, ()) if stream in (None, lane[1])]:
            if self._lanes[lane].jobs:
                self._lanes[lane].ending = True
            elif (home := self._end(lane)) is not None:
                closing.append((lane, home))
        return closing

    def lose(self, worker: int) -> None:
        """The worker is no more. Its lanes begin anew elsewhere."""
        for lane in [lane for lane, home in self._homes.items() if home == worker]:
            known = self._lanes[lane]
            known.lost = known.lost or known.opened
            known.opened = False
            del self._homes[lane]
            if known.jobs:
                self._homeless.add(lane)
        del self._load[worker]

    def told(self, lane: Lane) -> None:
        """The client knows that this lane's state was lost."""
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
