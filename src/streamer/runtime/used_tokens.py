"""Single-use tokens that work once in all serving processes together: their ids in memory that these share."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct

from streamer.access.replay import TokenReplayed
from streamer.errors import Overloaded

SLOTS = 1 << 17
"""Tokens that can be remembered: 3 MiB, of which only what was written to is there."""
PROBES = 64
"""Slots that an id may stand in. Where all of them are taken, the table is all but full."""
_SLOT = Struct("=16sd")
"""A hash of the id, and when it can be forgotten in seconds since 1970; 0 where nothing ever was."""


def new_table() -> int:
    """The descriptor of an empty table, for processes to inherit."""
    descriptor = os.memfd_create("streamer-used-tokens")
    os.ftruncate(descriptor, SLOTS * _SLOT.size)
    return descriptor


class SharedReplayCache:
    """An `access.Used` over a table that other processes use too.

    A hash table with open addressing: what is expired may be written over, and is never taken out, so that the search
    for an id may end where nothing ever was.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._table = mmap.mmap(descriptor, SLOTS * _SLOT.size)

    def use(self, token_id: str, expires_at: float, now: float) -> None:
        """See `access.Used`."""
        digest = hashlib.sha256(token_id.encode()).digest()[:16]
        first = int.from_bytes(digest[:8], "little")
        with self._alone():
            free: int | None = None
            for probe in range(PROBES):
                at = (first + probe) % SLOTS * _SLOT.size
                kept, until = _SLOT.unpack_from(self._table, at)
                if kept == digest and until > now:
                    raise TokenReplayed("this single-use token was used before: get a new one")
                if until <= now and free is None:
                    free = at
                if not until:
                    break
            if free is None:
                raise Overloaded("too many single-use tokens are in use: try again later")
            _SLOT.pack_into(self._table, free, digest, expires_at)

    def close(self) -> None:
        self._table.close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A lock of the process, which the kernel takes from one that dies. It is held for microseconds."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
