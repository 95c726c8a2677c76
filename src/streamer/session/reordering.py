"""Order of results: they leave in stream order, in whatever order the model answers."""

from __future__ import annotations

from collections import deque

from streamer.session.actions import JobId
from streamer.session.events import Event


class ReorderBuffer:
    """Reorder buffer of the finals (or pieces) of one channel."""

    __slots__ = ("_answers", "_waiting", "emitted_count", "last", "requested_count")

    def __init__(self) -> None:
        self._waiting: deque[JobId] = deque()
        self._answers: dict[JobId, Event] = {}
        self.requested_count = 0
        """Number of results requested so far."""
        self.emitted_count = 0
        """Number of results released so far; equal to `asked` if none is pending."""
        self.last: JobId = 0
        """Job of the last released result."""

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    @property
    def first(self) -> JobId | None:
        """The oldest pending job."""
        return self._waiting[0] if self._waiting else None

    def expect(self, job: JobId) -> None:
        """Expect the result of a job after those of all earlier ones."""
        self._waiting.append(job)
        self.requested_count += 1

    def is_next(self, job: JobId) -> bool:
        """Return whether no earlier job is pending."""
        return bool(self._waiting) and self._waiting[0] == job

    def put(self, job: JobId, event: Event) -> None:
        """Store an answer."""
        self._answers[job] = event

    def pop_ready(self) -> Event | None:
        """Return the next result in order, if it has arrived.

        Call it until None; a fence may be between two results.
        """
        if not self._waiting or self._waiting[0] not in self._answers:
            return None
        self.emitted_count += 1
        self.last = self._waiting.popleft()
        return self._answers.pop(self.last)


class Fences:
    """Events that may leave only after every result requested before them, on every channel."""

    __slots__ = ("_channels", "_waiting")

    def __init__(self, channels: list[ReorderBuffer]) -> None:
        self._channels = channels
        self._waiting: deque[tuple[Event, tuple[int, ...]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Hold `event` until all results that are pending now have left."""
        self._waiting.append((event, tuple(results.requested_count for results in self._channels)))

    def pop_ready(self) -> list[Event]:
        """Return the events whose results have all left, in order."""
        events: list[Event] = []
        while self._waiting and all(
            results.emitted_count >= targets
            for results, targets in zip(self._channels, self._waiting[0][1], strict=True)
        ):
            events.append(self._waiting.popleft()[0])
        return events
