"""Store of used single-use tokens: bounded, and kept until the tokens expire."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable
from typing import Protocol

from streamer.errors import ErrorCode, Overloaded, StreamerError


class TokenReplayed(StreamerError):
    """A single-use token was used twice."""

    code = ErrorCode.TOKEN_REPLAYED


class ReplayStore(Protocol):
    """Store of used single-use tokens."""

    def use(self, token_id: str, expires_at: float, now: float) -> Awaitable[None] | None:
        """Mark a token as used; times in seconds since 1970. Return None if that is done, or what has to be awaited.

        Either raises TokenReplayed if it was used before, and Overloaded if the store is full or away.
        """


class InMemoryReplayStore:
    """Store of single-use tokens in this process.

    When `bound` ids are stored, further tokens are refused until some expire.
    """

    def __init__(self, bound: int = 100_000) -> None:
        self._max_tokens = bound
        self._ids: set[str] = set()
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def use(self, token_id: str, expires_at: float, now: float) -> None:
        """Implement `ReplayStore.use`."""
        self._forget(now)
        if token_id in self._ids:
            raise TokenReplayed("this single-use token was used before: get a new one")
        if len(self._ids) >= self._max_tokens:
            raise Overloaded("too many single-use tokens are in use: try again later")
        self._ids.add(token_id)
        heapq.heappush(self._expiries, (expires_at, token_id))

    def _forget(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            self._ids.discard(heapq.heappop(self._expiries)[1])
