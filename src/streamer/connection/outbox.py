"""Send queue of one connection, bounded in bytes and in time without progress."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from streamer.errors import ErrorCode
from streamer.session.events import Ack, AudioChunk, ErrorEvent, Event, Segment

FrameT = TypeVar("FrameT")


@dataclass(frozen=True, slots=True)
class OutboxBounds:
    """Limits of a slow reader."""

    max_bytes: int = 256 * 1024
    """Bytes of queued frames, without the one that is being written."""
    stall_s: float = 10.0
    """Longest time in seconds for the peer to take one frame."""
    close_grace_s: float = 2.0
    """Time in seconds for a slow reader to take the error and the close."""


class QueuedFrame(NamedTuple, Generic[FrameT]):
    """A queued frame. `result`: its event, if the time of its sending is measured."""

    frame: FrameT
    size: int
    replaceable: bool
    result: Event | None


class Outbox(Generic[FrameT]):
    """Send queue with one producer and one writer. Replaceable frames are dropped first when it is full."""

    def __init__(self, bounds: OutboxBounds) -> None:
        self._bounds = bounds
        self._entries: deque[QueuedFrame[FrameT]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writing_since: float | None = None
        self.bytes = 0
        """Bytes of queued frames."""
        self.dropped = 0
        """Number of dropped frames."""
        self.is_closed = False
        self.close_code: ErrorCode | None = None
        """Reason of the close, once `is_closed`."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def deadline(self) -> float | None:
        """End of the peer's time to take the current frame; None if no frame is being written."""
        return None if self._writing_since is None else self._writing_since + self._bounds.stall_s

    @property
    def is_idle(self) -> bool:
        """Whether the queue is empty and the writer waits."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, frame: FrameT, size: int, *, is_replaceable: bool = False, result: Event | None = None) -> bool:
        """Queue a frame of `size` bytes. `is_replaceable`: it may be dropped. `result`: see `QueuedFrame`.

        Returns False if the limit is exceeded even without the frames that can be dropped.
        """
        if self.is_closed:
            return True
        self._entries.append(QueuedFrame(frame, size, is_replaceable, result))
        self.bytes += size
        self._wake()
        if self.bytes <= self._bounds.max_bytes:
            return True
        self._drop_replaceable()
        return self.bytes <= self._bounds.max_bytes

    def close(self, code: ErrorCode | None) -> None:
        """Accept no more frames. Queued ones are still sent."""
        if not self.is_closed:
            self.is_closed, self.close_code = True, code
            self._wake()

    def clear(self) -> None:
        """Discard all queued frames."""
        self._entries.clear()
        self._writing_since = None
        self.bytes = 0

    async def next(self, clock: Callable[[], float]) -> QueuedFrame[FrameT] | None:
        """Return the next frame to write, once there is one; None after the last. The previous one has been sent.

        The peer's time starts when the frame is taken, so it is not charged for a busy event loop.
        """
        self._writing_since = None
        while not self._entries:
            if self.is_closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        entry = self._entries.popleft()
        self.bytes -= entry.size
        self._writing_since = clock()
        return entry

    def _drop_replaceable(self) -> None:
        remaining = [entry for entry in self._entries if not entry.replaceable]
        self.dropped += len(self._entries) - len(remaining)
        self._entries = deque(remaining)
        self.bytes = sum(entry.size for entry in remaining)

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
    return (isinstance(event, Segment) and event.is_final) or (
        isinstance(event, ErrorEvent) and event.start is not None
    )
