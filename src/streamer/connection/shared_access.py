"""Single-use tokens and limits per subject over all servers, and what holds while their store is away."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TypeVar

from streamer.access.replay_store import TokenReplayed
from streamer.access.shared import SharedStore, StoreUnavailable, SubjectSession
from streamer.clock import Clock
from streamer.config import StoreSettings
from streamer.connection.admission import QuotaExceeded
from streamer.errors import Overloaded

T = TypeVar("T")

PAUSE_S = 1.0
"""Time in seconds after a failure in which the store is not asked again, so that not every handshake waits for it."""
TOKEN_MARGIN_S = 60.0
"""Time in seconds for which a used token is remembered beyond its end, because clocks differ."""

log = logging.getLogger(__name__)


class SharedAccess:
    """Asks the store. Implements `access.Used`.

    While the store is away, single-use tokens are refused: one that works twice is worse than one that does not work.
    Limits per subject then hold for each server on its own.
    """

    def __init__(
        self, store: SharedStore, settings: StoreSettings, clock: Clock, *, retry_after_s: float, server: str = ""
    ) -> None:
        """`server`: id of this server among all; empty for a random one."""
        self._store = store
        self._ttl_s = settings.session_ttl_s
        self._clock = clock
        self._retry_after_s = retry_after_s
        self._server = server or secrets.token_hex(8)
        self._numbers = count()
        self._held: dict[SubjectSession, None] = {}
        self._away_until = -math.inf
        self._is_away = False
        self._refreshing: asyncio.Task[None] | None = None
        self.failures = 0
        """Requests that the store did not answer."""

    def start(self) -> None:
        """Begin to refresh the sessions of this server."""
        self._refreshing = asyncio.create_task(self._refresh(), name="refresh-sessions")

    async def stop(self) -> None:
        """Stop; the sessions of this server that are still counted expire."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
            self._refreshing = None
        await self._store.close()

    def use(self, token_id: str, expires_at: float, now: float) -> Awaitable[None]:
        """Implement `access.Used.use`."""
        return self._use(token_id, max(0.0, expires_at - now) + TOKEN_MARGIN_S)

    async def _use(self, token_id: str, ttl_s: float) -> None:
        try:
            is_new = await self._ask(lambda: self._store.use_token(token_id, ttl_s))
        except StoreUnavailable:
            text = "single-use tokens cannot be checked at the moment: try again later with a new one"
            raise Overloaded(text, retry_after_s=self._retry_after_s) from None
        if not is_new:
            raise TokenReplayed("this single-use token was used before: get a new one")

    @asynccontextmanager
    async def hold(self, subject: str, limit: float) -> AsyncIterator[None]:
        """Count a session of a subject on all servers during the context. Raises TooMany."""
        session = (subject, f"{self._server}-{next(self._numbers)}")
        may = True
        with suppress(StoreUnavailable):
            may = await self._ask(lambda: self._store.acquire(session, limit, self._ttl_s))
        if not may:
            raise QuotaExceeded(
                f"this subject has reached its limit of {limit:g} sessions on all servers",
                retry_after_s=self._retry_after_s,
            )
        self._held[session] = None
        try:
            yield
        finally:
            del self._held[session]
            with suppress(StoreUnavailable):
                await asyncio.shield(self._ask(lambda: self._store.release(session)))

    async def _refresh(self) -> None:
        """Keep the sessions of this server counted; after the store was away or empty, they are counted again."""
        while True:
            await self._clock_sleep(self._ttl_s / 3)
            if self._held:
                with suppress(StoreUnavailable):
                    await self._ask(lambda: self._store.refresh(tuple(self._held), self._ttl_s))

    async def _clock_sleep(self, seconds: float) -> None:
        done = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + seconds, done.set)
        try:
            await done.wait()
        finally:
            timer.cancel()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, unless it failed a moment ago. Raises StoreAway."""
        if self._clock.now() < self._away_until:
            raise StoreUnavailable
        try:
            answer = await question()
        except StoreUnavailable as error:
            self.failures += 1
            self._away_until = self._clock.now() + PAUSE_S
            if not self._is_away:
                self._is_away = True
                log.error(
                    "the shared store is away (%s): single-use tokens are refused, and limits per subject hold for "
                    "each server on its own",
                    error,
                )
            raise
        if self._is_away:
            self._is_away = False
            log.warning("the shared store is back")
        return answer
