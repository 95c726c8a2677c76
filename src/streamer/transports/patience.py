"""Coalescing of received data: with many connections, a socket is read once a useful amount of data has arrived.

A speech window is 32 ms. A client that sends 8 ms at a time has its socket read four times for it, and three reads are
of no use. SO_RCVLOWAT makes the kernel report data only above a low-water mark (the end is always reported). This adds
no delay: the data that complete the window wake the reader. But a client may send less and wait for an answer, so a
socket that was not read for a while is read in any case. See docs/design/patience.md.
"""

from __future__ import annotations

from contextlib import suppress
from socket import SO_RCVLOWAT, SOL_SOCKET
from typing import Protocol

from streamer.clock import Clock, LoopClock, Timer

CROWD = 64
"""Connections up to which all data are read at once."""
HELD_S = 0.040
"""Seconds without a read after which the mark is lowered: the time of a window, and some jitter."""
LOOK_S = 0.010
"""Seconds between two checks for such sockets."""
MIN_MESSAGES_TO_WAIT_FOR = 2
"""It pays to wait for more input only if more messages than this are needed."""


class Socket(Protocol):
    """Required part of a socket."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


class Patience:
    """The low-water marks of all connections of a server. Belongs to its event loop."""

    def __init__(self, *, crowd: int = CROWD, clock: Clock | None = None) -> None:
        self._crowd = crowd
        self._clock = clock or LoopClock()
        self._connections = 0
        self._held: dict[Level, float] = {}
        """Time of the last read of each raised socket, the oldest first."""
        self._timer: Timer | None = None

    @property
    def held(self) -> int:
        """Number of sockets with a raised mark."""
        return len(self._held)

    def enter(self, socket: Socket) -> Level:
        """Add a connection, until its `leave`."""
        self._connections += 1
        return Level(self, socket)

    def leave(self, level: Level) -> None:
        self._connections -= 1
        self.release(level)

    @property
    def crowded(self) -> bool:
        return self._connections > self._crowd

    def hold(self, level: Level) -> None:
        """Store the time of a read."""
        self._held.pop(level, None)
        now = self._held[level] = self._clock.now()
        if self._timer is None:
            self._timer = self._clock.call_at(now + LOOK_S, self._look)

    def release(self, level: Level) -> None:
        """Remove a socket whose mark is lowered."""
        self._held.pop(level, None)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.now()
        late = []
        for level, read in self._held.items():
            if now - read < HELD_S:
                break
            late.append(level)
        for level in late:
            level.set(1)
        if self._held:
            self._timer = self._clock.call_at(now + LOOK_S, self._look)


class Level:
    """The low-water mark of one socket."""

    def __init__(self, patience: Patience, socket: Socket) -> None:
        self._patience = patience
        self._socket = socket
        self._bytes = 1

    def set(self, wanted: int) -> None:
        """Set the low-water mark after a read; 1 wakes on any data."""
        if wanted > 1 and not self._patience.crowded:
            wanted = 1
        if wanted != self._bytes:
            self._bytes = wanted
            with suppress(OSError, ValueError):  # it may be closed by now; uvloop says so with a ValueError
                self._socket.setsockopt(SOL_SOCKET, SO_RCVLOWAT, wanted)
            if wanted == 1:
                self._patience.release(self)
        if wanted > 1:
            self._patience.hold(self)

    def adapt(self, wanted: int, messages: int, size: int) -> None:
        """After a read of `messages` in `size` bytes: wait for `wanted` bytes if that takes several such messages."""
        if wanted * messages > MIN_MESSAGES_TO_WAIT_FOR * size:
            self.set(wanted)
        elif self._bytes > 1:
            self.set(1)

    def leave(self) -> None:
        """Lower the mark at the end of the connection, so that its last few bytes are read at once."""
        self.set(1)
        self._patience.leave(self)
