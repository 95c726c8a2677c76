"""Coalescing of received data: with many connections, a socket is read once a useful amount of data has arrived.

A speech window is 32 ms. A client that sends 8 ms at a time has its socket read four times for it, and three reads are
of no use. SO_RCVLOWAT makes the kernel report data only above a low-water mark (the end is always reported). This adds
no delay: the data that complete the window wake the reader. But a client may send less and wait for an answer, so a
socket that was not read for a while is read in any case. See docs/design/receive-coalescing.md.
"""

from __future__ import annotations

from contextlib import suppress
from socket import SO_RCVLOWAT, SOL_SOCKET
from typing import Protocol

from streamer.clock import Clock, LoopClock, Timer

MIN_CONNECTIONS = 64
"""Connections up to which all data are read at once."""
MAX_WAIT_S = 0.040
"""Seconds without a read after which the mark is lowered: the time of a window, and some jitter."""
CHECK_INTERVAL_S = 0.010
"""Seconds between two checks for such sockets."""
MIN_MESSAGES_TO_COALESCE = 2
"""It pays to wait for more input only if more messages than this are needed."""


class Socket(Protocol):
    """Required part of a socket."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


class ReceiveCoalescer:
    """The low-water marks of all connections of a server. Belongs to its event loop."""

    def __init__(self, *, crowd: int = MIN_CONNECTIONS, clock: Clock | None = None) -> None:
        self._min_connections = crowd
        self._clock = clock or LoopClock()
        self._connections = 0
        self._raised: dict[SocketWatermark, float] = {}
        """Time of the last read of each raised socket, the oldest first."""
        self._timer: Timer | None = None

    @property
    def raised_count(self) -> int:
        """Number of sockets with a raised mark."""
        return len(self._raised)

    def add(self, socket: Socket) -> SocketWatermark:
        """Add a connection, until its `leave`."""
        self._connections += 1
        return SocketWatermark(self, socket)

    def remove(self, level: SocketWatermark) -> None:
        self._connections -= 1
        self.mark_lowered(level)

    @property
    def is_enabled(self) -> bool:
        return self._connections > self._min_connections

    def mark_raised(self, level: SocketWatermark) -> None:
        """Store the time of a read."""
        self._raised.pop(level, None)
        now = self._raised[level] = self._clock.now()
        if self._timer is None:
            self._timer = self._clock.call_at(now + CHECK_INTERVAL_S, self._expire)

    def mark_lowered(self, level: SocketWatermark) -> None:
        """Remove a socket whose mark is lowered."""
        self._raised.pop(level, None)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.now()
        late = []
        for level, read in self._raised.items():
            if now - read < MAX_WAIT_S:
                break
            late.append(level)
        for level in late:
            level.set(1)
        if self._raised:
            self._timer = self._clock.call_at(now + CHECK_INTERVAL_S, self._expire)


class SocketWatermark:
    """The low-water mark of one socket."""

    def __init__(self, coalescer: ReceiveCoalescer, socket: Socket) -> None:
        self._coalescer = coalescer
        self._socket = socket
        self._bytes = 1

    def set(self, watermark: int) -> None:
        """Set the low-water mark after a read; 1 wakes on any data."""
        if watermark > 1 and not self._coalescer.is_enabled:
            watermark = 1
        if watermark != self._bytes:
            self._bytes = watermark
            with suppress(OSError, ValueError):  # it may be closed by now; uvloop says so with a ValueError
                self._socket.setsockopt(SOL_SOCKET, SO_RCVLOWAT, watermark)
            if watermark == 1:
                self._coalescer.mark_lowered(self)
        if watermark > 1:
            self._coalescer.mark_raised(self)

    def adapt(self, low_watermark: int, messages: int, size: int) -> None:
        """After a read of `messages` in `size` bytes: wait for `wanted` bytes if that takes several such messages."""
        if low_watermark * messages > MIN_MESSAGES_TO_COALESCE * size:
            self.set(low_watermark)
        elif self._bytes > 1:
            self.set(1)

    def close(self) -> None:
        """Lower the mark at the end of the connection, so that its last few bytes are read at once."""
        self.set(1)
        self._coalescer.remove(self)
