"""Send queue of one connection, bounded in bytes and in time without progress."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from streamer.errors import ErrorCode
from streamer.session.events import Ack, AudioChunk, Event, Failed, Segment

FrameT = TypeVar("FrameT")


@dataclass(frozen=True, slots=True)
class OutboxBounds:
    """Limits of a slow reader."""

    bytes: int = 256 * 1024
    """Bytes of queued frames, without the one that is being written."""
    stall_s: float = 10.0
    """Longest time in seconds for the peer to take one frame."""
    last_words_s: float = 2.0
    """Time in seconds for a slow reader to take the error and the close."""


class Entry(NamedTuple, Generic[FrameT]):
    """A queued frame. `result`: its event, if the time of its sending is measured."""

    frame: FrameT
    size: int
    droppable: bool
    result: Event | None


class Outbox(Generic[FrameT]):
    """Send queue with one producer and one writer. Replaceable frames are dropped first when it is full."""

    def __init__(self, bounds: OutboxBounds) -> None:
        self._bounds = bounds
        self._entries: deque[Entry[FrameT]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._since: float | None = None
        self.bytes = 0
        """Bytes of queued frames."""
        self.dropped = 0
        """Number of dropped frames."""
        self.closed = False
        self.code: ErrorCode | None = None
        """Reason of the close, once `closed`."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def deadline(self) -> float | None:
        """End of the peer's time to take the current frame; None if no frame is being written."""
        return None if self._since is None else self._since + self._bounds.stall_s

    @property
    def idle(self) -> bool:
        """Whether the queue is empty and the writer waits."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, frame: FrameT, size: int, *, is_replaceable: bool = False, result: Event | None = None) -> bool:
        """Queue a frame of `size` bytes. `is_replaceable`: it may be dropped. `result`: see `Entry`.

        Returns False if the limit is exceeded even without the frames that can be dropped.
        """
        if self.closed:
            return True
        self._entries.append(Entry(frame, size, is_replaceable, result))
        self.bytes += size
        self._wake()
        if self.bytes <= self._bounds.bytes:
            return True
        self._drop()
        return self.bytes <= self._bounds.bytes

    def close(self, code: ErrorCode | None) -> None:
        """Accept no more frames. Queued ones are still sent."""
        if not self.closed:
            self.closed, self.code = True, code
            self._wake()

    def clear(self) -> None:
        """Discard all queued frames."""
        self._entries.clear()
        self._since = None
        self.bytes = 0

    async def next(self, clock: Callable[[], float]) -> Entry[FrameT] | None:
        """Return the next frame to write, once there is one; None after the last. The previous one has been sent.

        The peer's time starts when the frame is taken, so it is not charged for a busy event loop.
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


def is_replaceable(event: Event) -> bool:
    """Return whether a later event makes this one obsolete."""
    return isinstance(event, Ack) or (isinstance(event, Segment) and not event.is_final)


def is_result(event: Event) -> bool:
    """Return whether the time of the event's sending counts: a final, the error in its place, or audio."""
    if isinstance(event, AudioChunk):
        return True
    return (isinstance(event, Segment) and event.is_final) or (isinstance(event, Failed) and event.start is not None)
