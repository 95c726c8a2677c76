"""Results leave in stream order, whatever the order in which the model answers."""

from __future__ import annotations

from collections import deque

from streamer.session.actions import JobId
from streamer.session.events import Event


class OrderedResults:
    """The finals (or pieces) of one channel: asked for in order, answered in any, released in order."""

    __slots__ = ("_answers", "_waiting", "asked", "released")

    def __init__(self) -> None:
        self._waiting: deque[JobId] = deque()
        self._answers: dict[JobId, Event] = {}
        self.asked = 0
        """Results asked for so far."""
        self.released = 0
        """Results that left so far; equal to `asked` when nothing is outstanding."""

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def first(self) -> JobId | None:
        """The job that everything else waits for."""
        return self._waiting[0] if self._waiting else None

    def ask(self, job: JobId) -> None:
        """This job's result comes after all asked for before."""
        self._waiting.append(job)
        self.asked += 1

    def is_next(self, job: JobId) -> bool:
        """Whether nothing before this job is outstanding."""
        return bool(self._waiting) and self._waiting[0] == job

    def answer(self, job: JobId, event: Event) -> None:
        """Take one answer."""
        self._answers[job] = event

    def release(self) -> Event | None:
        """The next result in order, if it has been answered. Call until None; a fence may stand between two."""
        if not self._waiting or self._waiting[0] not in self._answers:
            return None
        self.released += 1
        return self._answers.pop(self._waiting.popleft())


class Fences:
    """Events that may leave only when every result asked for before them, on every channel, has left."""

    __slots__ = ("_channels", "_waiting")

    def __init__(self, channels: list[OrderedResults]) -> None:
        self._channels = channels
        self._waiting: deque[tuple[Event, tuple[int, ...]]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Hold `event` behind all that is outstanding now."""
        self._waiting.append((event, tuple(results.asked for results in self._channels)))

    def ready(self) -> list[Event]:
        """The events whose results have all left, in order."""
        events: list[Event] = []
        while self._waiting and all(
            results.released >= asked for results, asked in zip(self._channels, self._waiting[0][1], strict=True)
        ):
            events.append(self._waiting.popleft()[0])
        return events
