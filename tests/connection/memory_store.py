"""A shared store in this process, for tests of what asks one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from streamer.access.shared import SubjectSession
from streamer.clock import Clock


class MemoryStore:
    """A store in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._sessions: defaultdict[str, dict[str, float]] = defaultdict(dict)

    async def use_token(self, token_id: str, ttl_s: float) -> bool:
        """Implement `SharedStore.use_token`."""
        now = self._clock.now()
        self._tokens = {key: until for key, until in self._tokens.items() if until > now}
        if token_id in self._tokens:
            return False
        self._tokens[token_id] = now + ttl_s
        return True

    async def acquire(self, held: SubjectSession, limit: float, ttl_s: float) -> bool:
        """Implement `SharedStore.acquire`."""
        subject, session = held
        now = self._clock.now()
        sessions = {key: until for key, until in self._sessions[subject].items() if until > now}
        may = session in sessions or len(sessions) < limit
        if may:
            sessions[session] = now + ttl_s
        self._sessions[subject] = sessions
        return may

    async def refresh(self, held: Iterable[SubjectSession], ttl_s: float) -> None:
        """Implement `SharedStore.refresh`."""
        for subject, session in held:
            self._sessions[subject][session] = self._clock.now() + ttl_s

    async def release(self, held: SubjectSession) -> None:
        """Implement `SharedStore.release`."""
        subject, session = held
        self._sessions[subject].pop(session, None)
        if not self._sessions[subject]:
            del self._sessions[subject]

    async def close(self) -> None:
        """Do nothing."""
