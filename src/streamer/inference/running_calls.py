"""The running calls of a worker: one, or several that overlap, and the places that their items take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from streamer.clock import Timer
from streamer.inference.worker_protocol import Op, WorkerReply

WorkT = TypeVar("WorkT")


@dataclass(slots=True)
class RunningCall(Generic[WorkT]):
    """Running call of a worker. `work` is None for the engine's own calls. `items`: those that take a place.

    `overdue`: why the call was cancelled, which its last reply will confirm.
    """

    op: Op
    work: WorkT | None
    timer: Timer
    started_at: float
    items: int = 0
    overdue: str = ""


class RunningCalls(Generic[WorkT]):
    """Running calls by their ids. `places`: maximum items at a time, if calls overlap; 0: one call at a time."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.items = 0
        """Items that take a place. An item gives it back with its last answer."""
        self.is_reserved = False
        """The only call has a job that must have a worker for itself."""
        self._calls: dict[int, RunningCall[WorkT]] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def room(self) -> int:
        """Number of items that can start now, if calls overlap."""
        return 0 if self.is_reserved else self.places - self.items

    def next_id(self) -> int:
        """Return the id of a call to come: always 0 if there is one at a time."""
        if self.places:
            self._last_id += 1
        return self._last_id

    def add(self, call_id: int, call: RunningCall[WorkT]) -> None:
        self._calls[call_id] = call
        self.items += call.items

    def get(self, call_id: int) -> RunningCall[WorkT] | None:
        return self._calls.get(call_id)

    def free_places(self, call: RunningCall[WorkT], reply: WorkerReply) -> bool:
        """Take back the places of items with a last answer in `reply`. Return whether there are any."""
        if not call.items:
            return False
        places = sum(not answer.partial for answer in reply.answers)
        call.items -= places
        self.items -= places
        return places > 0

    def remove(self, call_id: int) -> None:
        """Remove a call that is done."""
        call = self._calls.pop(call_id)
        call.timer.cancel()
        self.items -= call.items
        if not self._calls:
            self.is_reserved = False

    def clear(self) -> list[WorkT]:
        """Remove all calls; return their work."""
        calls = list(self._calls.values())
        for call_id in list(self._calls):
            self.remove(call_id)
        return [call.work for call in calls if call.work is not None]
