"""Memory for audio: the bytes of each session and of all sessions, and their limits."""

from __future__ import annotations

import sys

from streamer.session.settings import MEMORY_SHARES


class MemoryPool:
    """Memory for the audio of all sessions of a process.

    The share of each session shrinks with the use of the pool (a dynamic threshold: Choudhury and Hahne, 1998). So
    large sessions are slowed down first, a few of them cannot use up the pool, and small ones are not affected.
    """

    __slots__ = ("_even_share", "max_bytes", "used")

    def __init__(self, max_bytes: int = sys.maxsize, max_sessions: int = 1) -> None:
        self.max_bytes = max_bytes
        self._even_share = max_bytes // (max_sessions + MEMORY_SHARES)
        self.used = 0
        """Bytes in use."""

    @property
    def share(self) -> int:
        """Return the bytes that one session may use now. At least the free memory if all sessions use their share."""
        return max((self.max_bytes - self.used) // MEMORY_SHARES, self._even_share)

    @property
    def is_scarce(self) -> bool:
        """Whether there is no memory for new sessions."""
        return self.max_bytes - self.used < self.max_bytes // MEMORY_SHARES


class MemoryAccount:
    """The bytes of a pool that one session, or one connection, uses."""

    __slots__ = ("_max_bytes", "_pool", "is_over", "used")

    def __init__(self, pool: MemoryPool, max_bytes: int = sys.maxsize) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self.used = 0
        """Bytes at the last update."""
        self.is_over = False
        """Whether the last update exceeded the share."""

    def update(self, used: int, reserved: int = 0) -> bool:
        """Update the used bytes, and the reserve for processing them; return `is_over`."""
        self._pool.used += used - self.used
        self.used = used
        self.is_over = used + reserved > self._max_bytes or used > self._pool.share
        return self.is_over
