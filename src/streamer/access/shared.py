"""Interface of a store that several servers share: used single-use tokens, and the sessions of each subject."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

SubjectSession = tuple[str, str]
"""A subject, and the id of one of its sessions, which is unique among all servers."""


class StoreUnavailable(Exception):
    """The store cannot be reached, or did not answer in time."""


class SharedStore(Protocol):
    """A store that all servers use. Every method may raise StoreAway."""

    async def use_token(self, token_id: str, ttl_s: float) -> bool:
        """Mark a token as used for `ttl_s` seconds; return whether it was unused."""
        ...

    async def acquire(self, holder: SubjectSession, limit: float, ttl_s: float) -> bool:
        """Count a session for `ttl_s` seconds unless its subject has `limit` already; return whether it counts."""
        ...

    async def refresh(self, holders: Iterable[SubjectSession], ttl_s: float) -> None:
        """Count these sessions for another `ttl_s` seconds, whether the store knows them or not."""
        ...

    async def release(self, holder: SubjectSession) -> None:
        """Stop counting a session."""
        ...

    async def close(self) -> None: ...
