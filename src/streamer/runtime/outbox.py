"""Frames that wait for one peer: bounded in bytes, and in time without progress."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from streamer.errors import ErrorCode
from streamer.session.events import Ack, Event, Failed, Segment

FrameT = TypeVar("FrameT")


@dataclass(frozen=True, slots=True)
class OutboxBounds:
    """How far behind a reader may fall."""

    bytes: int = 256 * 1024
    """Frames that wait, without the one that is being written."""
    stall_s: float = 10.0
    """Time in which a waiting reader must take at least one frame."""
    last_words_s: float = 2.0
    """How long a reader that was too slow has to take the error and the close."""


class Entry(NamedTuple, Generic[FrameT]):
    """A frame that waits. `result`: what it says, where somebody times its way out."""

    frame: FrameT
    size: int
    droppable: bool
    result: Event | None


class Outbox(Generic[FrameT]):
    """One task puts, one writes. Droppable frames (what a later one replaces) go first when it gets tight."""

    def __init__(self, bounds: OutboxBounds) -> None:
        self._bounds = bounds
        self._entries: deque[Entry[FrameT]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._since: float | None = None
        self.bytes = 0
        """Bytes that wait."""
        self.dropped = 0
        """Frames that were dropped."""
        self.closed = False
        self.code: ErrorCode | None = None
        """Why the end comes, once `closed`."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def deadline(self) -> float | None:
        """When a peer that takes nothing has had its time; None while nothing is being written."""
        return None if self._since is None else self._since + self._bounds.stall_s

    @property
    def idle(self) -> bool:
        """Whoever writes waits for the next frame: nothing is queued, nothing under way."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, frame: FrameT, size: int, event: Event) -> bool:
        """Queue a frame of `size` bytes that says `event`. False: the peer is too far behind, even without what could
        be dropped."""
        if self.closed:
            return True
        self._entries.append(Entry(frame, size, _is_replaceable(event), event if is_result(event) else None))
        self.bytes += size
        self._wake()
        if self.bytes <= self._bounds.bytes:
            return True
        self._drop()
        return self.bytes <= self._bounds.bytes

    def close(self, code: ErrorCode | None) -> None:
        """No more frames; those that wait go out first."""
        if not self.closed:
            self.closed, self.code = True, code
            self._wake()

    def clear(self) -> None:
        """Forget what waits."""
        self._entries.clear()
        self._since = None
        self.bytes = 0

    async def next(self, clock: Callable[[], float]) -> Entry[FrameT] | None:
        """The next frame to write, when there is one; None after the last. The one before is out by now.

        The peer's time begins when it is taken: how long it waited for a busy loop is none of the peer's doing.
        """
        self._since = None
        while not self._entries:
            if self.closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        entry = self._entries.popleft()
        self.bytes -= entry.size
        self._since = clock()
        return entry

    def _drop(self) -> None:
        kept = [entry for entry in self._entries if not entry.droppable]
        self.dropped += len(self._entries) - len(kept)
        self._entries = deque(kept)
        self.bytes = sum(entry.size for entry in kept)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _is_replaceable(event: Event) -> bool:
    """Whether a later event says all that this one says."""
    return isinstance(event, Ack) or (isinstance(event, Segment) and not event.is_final)


def is_result(event: Event) -> bool:
    """Whether this is what a client waits for: a final, or the error that stands in its place."""
    return (isinstance(event, Segment) and event.is_final) or (isinstance(event, Failed) and event.start is not None)
