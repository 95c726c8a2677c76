"""Tokens that were used up: remembered until they would have expired anyway, and never without bound."""

from __future__ import annotations

import heapq
from typing import Protocol

from streamer.errors import ErrorCode, Overloaded, StreamerError


class TokenReplayed(StreamerError):
    """A token that works once came twice."""

    code = ErrorCode.TOKEN_REPLAYED


class Used(Protocol):
    """What remembers single-use tokens."""

    def use(self, token_id: str, expires_at: float, now: float) -> None:
        """Use a token up; times in seconds since 1970. Raises TokenReplayed, and Overloaded where no more can be
        remembered."""


class ReplayCache:
    """Ids of single-use tokens. At most `bound` at a time: past it, nobody new is let in until some have expired."""

    def __init__(self, bound: int = 100_000) -> None:
        self._bound = bound
        self._ids: set[str] = set()
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._ids)

    def use(self, token_id: str, expires_at: float, now: float) -> None:
        """See `Used`."""
        self._forget(now)
        if token_id in self._ids:
            raise TokenReplayed("this single-use token was used before: get a new one")
        if len(self._ids) >= self._bound:
            raise Overloaded("too many single-use tokens are in use: try again later")
        self._ids.add(token_id)
        heapq.heappush(self._expiries, (expires_at, token_id))

    def _forget(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            self._ids.discard(heapq.heappop(self._expiries)[1])
