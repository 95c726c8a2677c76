"""In a crowd, a socket is read once there is enough to do something with: the kernel keeps the small pieces meanwhile.

A window of speech is 32 ms; a client that sends 8 ms at a time has its socket read four times for it, and three times
nothing can be done. SO_RCVLOWAT has the kernel say nothing until so many bytes are there (an end is always told). It
costs no time: the piece that completes the window is the one that wakes the reader. But a client may say less and wait
for an answer. So a socket that was not read for a while has whatever it has read at once. See docs/design/patience.md.
"""

from __future__ import annotations

from contextlib import suppress
from socket import SO_RCVLOWAT, SOL_SOCKET
from typing import Protocol

from streamer.clock import Clock, LoopClock, Timer

CROWD = 64
"""Connections up to which every byte is read at once."""
HELD_S = 0.040
"""A socket that was not read for so long is not held any more: a window's time, and some jitter."""
LOOK_S = 0.010
"""Between two looks for such sockets."""
MIN_MESSAGES_TO_WAIT_FOR = 2
"""It pays to wait for more input only if more messages than this are needed."""


class Socket(Protocol):
    """What is needed of one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


class Patience:
    """Of all connections of a server. Belongs to its event loop."""

    def __init__(self, *, crowd: int = CROWD, clock: Clock | None = None) -> None:
        self._crowd = crowd
        self._clock = clock or LoopClock()
        self._connections = 0
        self._held: dict[Level, float] = {}
        """When they were read last; the one that waits longest comes first."""
        self._timer: Timer | None = None

    @property
    def held(self) -> int:
        """Sockets that are not read for a few bytes."""
        return len(self._held)

    def enter(self, socket: Socket) -> Level:
        """A connection begins; `leave` ends it."""
        self._connections += 1
        return Level(self, socket)

    def leave(self, level: Level) -> None:
        self._connections -= 1
        self.release(level)

    @property
    def crowded(self) -> bool:
        return self._connections > self._crowd

    def hold(self, level: Level) -> None:
        """It was read now."""
        self._held.pop(level, None)
        now = self._held[level] = self._clock.now()
        if self._timer is None:
            self._timer = self._clock.call_at(now + LOOK_S, self._look)

    def release(self, level: Level) -> None:
        """It is read for any byte."""
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
    """From how many bytes on one socket is read."""

    def __init__(self, patience: Patience, socket: Socket) -> None:
        self._patience = patience
        self._socket = socket
        self._bytes = 1

    def set(self, wanted: int) -> None:
        """It was read, and will be again once `wanted` bytes are there; 1 for any."""
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
        """The connection ends: its last bytes, a goodbye of a few, are read at once."""
        self.set(1)
        self._patience.leave(self)
