"""What a server asks of whoever connects, and what it asks again while they stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from streamer.access.carriers import Carrier, Credential
from streamer.access.identity import Identity
from streamer.access.origins import Origins
from streamer.access.verifier import Forbidden, Verifier


@dataclass(frozen=True, slots=True)
class Door:
    """One for a server, whatever its transports. Without a verifier everybody comes in, and nobody is known."""

    verifier: Verifier | None
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    origins: Origins = Origins()
    first_message: bool = False
    """Who shows nothing in the handshake may say it in a first message, where the dialect has the word."""
    refuse_after_upgrade: bool = False
    """Refusals are told over the WebSocket (4401, 4403): a browser is not shown the status of a failed handshake."""

    @property
    def locked(self) -> bool:
        return self.verifier is not None

    def enter(self, origin: str | None, host: str | None, credential: Credential | None) -> Identity | None:
        """Who comes in; None where nobody has to say. Raises what `Origins.check` and `Verifier.verify` raise."""
        self.origins.check(origin, host)
        return self.show(credential)

    def show(self, credential: Credential | None) -> Identity | None:
        """The same without an origin: it was checked before, or there is none."""
        return self.verifier.verify(credential, self.wall_clock()) if self.verifier else None

    def lease(self, identity: Identity | None, now: float) -> Lease | None:
        """How long they may stay; `now` is monotonic seconds. None where nobody has to say who they are."""
        return Lease(self.verifier, self.wall_clock, identity, now) if self.verifier and identity else None


class Lease:
    """How long one connection may go on. It runs on the monotonic clock: a wall clock that jumps ends nothing."""

    def __init__(self, verifier: Verifier, wall_clock: Callable[[], float], identity: Identity, now: float) -> None:
        self._verifier = verifier
        self._wall_clock = wall_clock
        self._subject = identity.subject
        self.until = self._ends(identity, now)
        """Monotonic seconds; infinite with a key."""

    def renew(self, secret: str, now: float) -> None:
        """A newer token for the same subject. Raises StreamerError and changes nothing where it does not do."""
        identity = self._verifier.verify(Credential(secret, Carrier.MESSAGE), self._wall_clock())
        if identity.subject != self._subject:
            raise Forbidden("the token is somebody else's")
        self.until = self._ends(identity, now)

    def _ends(self, identity: Identity, now: float) -> float:
        return math.inf if identity.expires_at is None else now + (identity.expires_at - self._wall_clock())
