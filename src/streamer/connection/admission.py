"""Admission: counts slots, and refuses sessions with a retry time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from ipaddress import IPv6Address, IPv6Network, ip_address

from streamer.access import Identity
from streamer.connection.hosted_model import HostedModel
from streamer.connection.model_pool import ModelPool
from streamer.errors import ErrorCode, Overloaded, StreamerError
from streamer.inference.contract import ModelBackend
from streamer.session.memory import MemoryPool


class NotServing(StreamerError):
    """The server is shutting down. The same request may succeed elsewhere."""

    code = ErrorCode.DRAINING


class QuotaExceeded(Overloaded):
    """The address or subject has reached its own limit of sessions."""

    code = ErrorCode.RATE_LIMITED


class Admission:
    """Slots for sessions. A slot is acquired before the handshake is answered, so a burst cannot exceed the limit."""

    def __init__(
        self,
        max_sessions: int,
        engine: ModelBackend,
        *,
        retry_after_s: float,
        per_address: float = math.inf,
        per_subject: float = math.inf,
        max_handshakes: float = math.inf,
        memory: MemoryPool | None = None,
        hold: Callable[[str, float], AbstractAsyncContextManager[None]] | None = None,
        models: ModelPool | None = None,
    ) -> None:
        """`memory`: of the audio of all sessions; None: it is not bounded.

        `hold(subject, limit)`: counts a session on all servers, or raises TooMany; None: this is the only server.
        `models`: several models, which have limits of their own; None for one model.
        """
        self._hold = hold
        self._models = models
        self._max_sessions = max_sessions
        self._max_handshakes = max_handshakes
        self._handshakes = 0
        self._per_address = per_address
        self._per_subject = per_subject
        self._engine = engine
        self._retry_after_s = retry_after_s
        self._memory = memory or MemoryPool()
        self._slots_of: Counter[Hashable] = Counter()
        self.active = 0
        """Slots in use."""
        self.starting = True
        """Sessions are not accepted yet."""
        self.draining = False
        """Sessions are not accepted any more."""
        self.fault = ""
        """Reason why the server cannot accept sessions any more; empty if it can."""

    def check(self, model: str = "") -> None:
        """Check whether a slot is available. Raises Overloaded (with `retry_after_s`) or NotServing.

        Call it before verifying a credential, so that no single-use token is used up for nothing. `model`: name of the
        requested one of several models, if it is known already.
        """
        if self.draining:
            raise NotServing("the server is draining")
        if self.fault:
            raise StreamerError("internal server error")
        if self.starting:
            raise Overloaded("the server is starting", retry_after_s=self._retry_after_s)
        if self.active >= self._max_sessions:
            text = f"the server has reached its limit of {self._max_sessions} sessions"
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        if self._memory.is_scarce:
            text = (
                f"audio takes {self._memory.used} of {self._memory.max_bytes} bytes of memory (server.max_audio_bytes)"
            )
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        self._engine.check_admission()
        if model and self._models is not None:
            self._models.named(model).check_admission()

    @property
    def load(self) -> float:
        """Share of the capacity in use (0 to 1): the greater of the slots' and the engine's."""
        return min(1.0, max(self.active / self._max_sessions, self._engine.depth.load))

    @contextmanager
    def acquire_handshake(self) -> Iterator[None]:
        """Reserve a slot for a connection that is accepted before authentication, while its first message is awaited.

        Raises Overloaded. Connections that are not accepted yet are limited by their transport.
        """
        if self._handshakes >= self._max_handshakes:
            text = f"the server has reached its limit of {self._max_handshakes:g} handshakes"
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        self._handshakes += 1
        try:
            yield
        finally:
            self._handshakes -= 1

    @contextmanager
    def acquire(self, address: str | None = None, identity: Identity | None = None) -> Iterator[None]:
        """Reserve a slot for the duration of the context. Raises the errors of `check`, and TooMany."""
        self.check()
        shares = list(self._quotas(address, identity))
        for share, limit, text in shares:
            if self._slots_of[share] >= limit:
                raise QuotaExceeded(
                    f"{text} has reached its limit of {limit:g} sessions", retry_after_s=self._retry_after_s
                )
        self.active += 1
        self._slots_of.update(share for share, _, _ in shares)
        try:
            yield
        finally:
            self.active -= 1
            for share, _, _ in shares:
                self._slots_of[share] -= 1
                if not self._slots_of[share]:
                    del self._slots_of[share]  # keep no entry for an address or subject without slots

    @asynccontextmanager
    async def admit(
        self, address: str | None = None, identity: Identity | None = None, model: str | None = ""
    ) -> AsyncIterator[HostedModel | None]:
        """Reserve a slot here, and one of its subject on all servers, for the duration of the context.

        `model`: name of one of several models (empty: the default), which is loaded if necessary and yielded; None if
        it is not known yet (see `use`). Yields None on a server with one model. Raises the errors of `acquire`, of
        `ModelPool.named` and of `HostedModel.use`.
        """
        hosted = self._models.named(model) if self._models is not None and model is not None else None
        with self.acquire(address, identity):
            if hosted is not None:
                hosted.check_admission()  # before the store is asked
            async with self._held_everywhere(identity), nullcontext() if hosted is None else hosted.use():
                yield hosted

    @asynccontextmanager
    async def use(self, model: str) -> AsyncIterator[HostedModel | None]:
        """Keep one of several models for a session that has its slot already, as `admit` does."""
        if self._models is None:
            yield None
            return
        hosted = self._models.named(model)
        async with hosted.use():
            yield hosted

    def _held_everywhere(self, identity: Identity | None) -> AbstractAsyncContextManager[None]:
        """Return the context of a subject's slot on all servers."""
        limit = math.inf if identity is None else self._subject_limit(identity)
        if identity is None or limit == math.inf or self._hold is None:
            return nullcontext()
        return self._hold(identity.subject, limit)

    def _subject_limit(self, identity: Identity) -> float:
        return min(self._per_subject, identity.limits.max_sessions or math.inf)

    def _quotas(self, address: str | None, identity: Identity | None) -> Iterator[tuple[Hashable, float, str]]:
        """Yield the quotas of a slot: (key, limit, name for the error)."""
        if address is not None and self._per_address < math.inf:
            yield ("address", network_of(address)), self._per_address, "this address"
        if identity is not None:
            yield ("subject", identity.subject), self._subject_limit(identity), "this subject"


def network_of(address: str) -> str:
    """Return the network of a subscriber: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)
