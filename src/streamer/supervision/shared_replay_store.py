"""Store of single-use tokens in memory that all server processes share."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct

from streamer.access.replay_store import TokenReplayed
from streamer.errors import Overloaded

SLOTS = 1 << 17
"""Tokens that can be stored: 3 MiB, of which only written pages are allocated."""
PROBES = 64
"""Slots where an id may be stored. If all of them are used, the table is nearly full."""
_SLOT = Struct("=16sd")
"""A hash of the id, and its expiry in seconds since 1970; 0 in a slot that was never used."""


def new_table() -> int:
    """Return the descriptor of an empty table, which processes inherit."""
    descriptor = os.memfd_create("streamer-used-tokens")
    os.ftruncate(descriptor, SLOTS * _SLOT.size)
    return descriptor


class SharedReplayStore:
    """A replay store over a table that other processes use as well.

    A hash table with open addressing: an expired entry may be overwritten but is never removed, so that a search can
    stop at a slot that was never used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._table = mmap.mmap(descriptor, SLOTS * _SLOT.size)

    def use(self, token_id: str, expires_at: float, now: float) -> None:
        """Implement `access.Used.use`."""
        digest = hashlib.sha256(token_id.encode()).digest()[:16]
        first = int.from_bytes(digest[:8], "little")
        with self._exclusive():
            free_slot: int | None = None
            for probe in range(PROBES):
                at = (first + probe) % SLOTS * _SLOT.size
                entry, until = _SLOT.unpack_from(self._table, at)
                if entry == digest and until > now:
                    raise TokenReplayed("this single-use token was used before: get a new one")
                if until <= now and free_slot is None:
                    free_slot = at
                if not until:
                    break
            if free_slot is None:
                raise Overloaded("too many single-use tokens are in use: try again later")
            _SLOT.pack_into(self._table, free_slot, digest, expires_at)

    def close(self) -> None:
        self._table.close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock the table. The kernel releases the lock of a process that dies. It is held for microseconds."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
