"""Memory for audio: the bytes that each session holds, those that all of them hold, and the bounds of both."""

from __future__ import annotations

import sys

from streamer.session.settings import MEMORY_SHARES


class MemoryPool:
    """Bytes of audio that all sessions of a process may hold together.

    The more is used, the less may each session hold (a dynamic threshold: Choudhury and Hahne, 1998). Sessions that
    hold much are slowed first, so a few cannot use everything up, and sessions that hold little do not notice.
    """

    __slots__ = ("_even_share", "max_bytes", "used")

    def __init__(self, max_bytes: int = sys.maxsize, max_sessions: int = 1) -> None:
        self.max_bytes = max_bytes
        self._even_share = max_bytes // (max_sessions + MEMORY_SHARES)
        self.used = 0
        """Bytes that are held now."""

    @property
    def share(self) -> int:
        """Bytes that one session may hold now. Never less than what is left if all of them hold their share."""
        return max((self.max_bytes - self.used) // MEMORY_SHARES, self._even_share)

    @property
    def is_scarce(self) -> bool:
        """Whether there is no memory for new sessions."""
        return self.max_bytes - self.used < self.max_bytes // MEMORY_SHARES


class MemoryAccount:
    """The bytes of a pool that one session, or one connection, holds."""

    __slots__ = ("_max_bytes", "_pool", "is_over", "used")

    def __init__(self, pool: MemoryPool, max_bytes: int = sys.maxsize) -> None:
        self._pool = pool
        self._max_bytes = max_bytes
        self.used = 0
        """Bytes, as they were counted last."""
        self.is_over = False
        """Whether they were more than may be held."""

    def update(self, used: int, reserved: int = 0) -> bool:
        """Set the bytes that are held, and those that may be needed to deal with them; returns `is_over`."""
        self._pool.used += used - self.used
        self.used = used
        self.is_over = used + reserved > self._max_bytes or used > self._pool.share
        return self.is_over
