"""Who is taken on: places are counted, and refused with a hint when to come back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network, ip_address

from streamer.access import Identity
from streamer.errors import ErrorCode, Overloaded, StreamerError
from streamer.inference.contract import InferenceEngine
from streamer.session.memory import MemoryPool


class NotServing(StreamerError):
    """The server is going away: the same request may succeed elsewhere."""

    code = ErrorCode.DRAINING


class TooMany(Overloaded):
    """The server has places, but not one more for this address or this subject."""

    code = ErrorCode.RATE_LIMITED


class Admission:
    """Places for sessions. A place is taken before the handshake is answered, so that a burst cannot pass the bound."""

    def __init__(
        self,
        max_sessions: int,
        engine: InferenceEngine,
        *,
        retry_after_s: float,
        per_address: float = math.inf,
        per_subject: float = math.inf,
        max_handshakes: float = math.inf,
        memory: MemoryPool | None = None,
    ) -> None:
        """`memory`: of the audio of all sessions; None: it is not bounded."""
        self._max = max_sessions
        self._max_handshakes = max_handshakes
        self._handshakes = 0
        self._per_address = per_address
        self._per_subject = per_subject
        self._engine = engine
        self._retry_after_s = retry_after_s
        self._memory = memory or MemoryPool()
        self._held: Counter[Hashable] = Counter()
        self.active = 0
        """Places taken."""
        self.starting = True
        """Nobody is taken on yet."""
        self.draining = False
        """Nobody is taken on any more."""
        self.fault = ""
        """Why nobody can be served any more."""

    def check(self) -> None:
        """Whether a place can be had at all. Raises Overloaded (with `retry_after_s`) or NotServing.

        To be asked before a credential is looked at: a token that works once is not used up for nothing.
        """
        if self.draining:
            raise NotServing("the server is draining")
        if self.fault:
            raise StreamerError("internal server error")
        if self.starting:
            raise Overloaded("the server is starting", retry_after_s=self._retry_after_s)
        if self.active >= self._max:
            text = f"the server has reached its limit of {self._max} sessions"
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        if self._memory.is_scarce:
            text = (
                f"audio takes {self._memory.used} of {self._memory.max_bytes} bytes of memory (server.max_audio_bytes)"
            )
            raise Overloaded(text, retry_after_s=self._retry_after_s)
        self._engine.check_admission()

    @contextmanager
    def handshake(self) -> Iterator[None]:
        """A place for a connection that is accepted before it says who it is, while its first message is waited for.

        Raises Overloaded. What has not been accepted yet has bounds of its transport's own.
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
    def place(self, address: str | None = None, identity: Identity | None = None) -> Iterator[None]:
        """A place for the time of the context. Raises what `check` raises, and TooMany."""
        self.check()
        shares = list(self._shares(address, identity))
        for share, most, text in shares:
            if self._held[share] >= most:
                raise TooMany(f"{text} has reached its limit of {most:g} sessions", retry_after_s=self._retry_after_s)
        self.active += 1
        self._held.update(share for share, _, _ in shares)
        try:
            yield
        finally:
            self.active -= 1
            for share, _, _ in shares:
                self._held[share] -= 1
                if not self._held[share]:
                    del self._held[share]  # whoever holds none is forgotten

    def _shares(self, address: str | None, identity: Identity | None) -> Iterator[tuple[Hashable, float, str]]:
        """What a place counts against: (who, how many at most, how an error says it)."""
        if address is not None and self._per_address < math.inf:
            yield ("address", network_of(address)), self._per_address, "this address"
        if identity is not None:
            most = min(self._per_subject, identity.grant.max_sessions or math.inf)
            yield ("subject", identity.subject), most, "this subject"


def network_of(address: str) -> str:
    """Return what identifies a subscriber: an IPv4 address, or the 64 bits of an IPv6 one that providers hand out."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Network((ip, 64), strict=False))
    return str(ip)
