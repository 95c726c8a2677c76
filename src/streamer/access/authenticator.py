"""The access policy: authentication of new connections, and renewal of their leases."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streamer.access.credentials import Credential, CredentialSource, Identity
from streamer.access.keys import KEY_PREFIX, KeyRing
from streamer.access.origins import Origins
from streamer.access.replay_store import InMemoryReplayStore, ReplayStore
from streamer.access.tokens import TokenReader, Unauthenticated
from streamer.errors import ErrorCode, StreamerError


class Forbidden(StreamerError):
    """The client is authenticated but not authorised."""

    code = ErrorCode.FORBIDDEN


class Verifier:
    """Verifies credentials. `now` is seconds since 1970, because tokens travel between machines."""

    def __init__(self, keys: KeyRing, tokens: TokenReader | None = None, used: ReplayStore | None = None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._replay_store = used if used is not None else InMemoryReplayStore()  # an empty one is falsy

    async def verify(self, credential: Credential | None, now: float) -> Identity:
        """Return the identity of a credential. A single-use token is used up by this call.

        Raises StreamerError with the code unauthenticated, token_expired, token_replayed, forbidden, or overloaded (too
        many single-use tokens are in use, or their store is away). No message contains any part of the credential.
        """
        identity, using = self.begin(credential, now)
        if using is not None:
            await using
        return identity

    def begin(self, credential: Credential | None, now: float) -> tuple[Identity, Awaitable[None] | None]:
        """Verify a credential; return its identity, which holds once the second part has been awaited.

        Raises the errors of `verify`, as the second part does. It is None unless another machine has to be asked.
        """
        if credential is None:
            raise Unauthenticated("authentication is required: send a key or a token")
        if credential.secret.startswith(KEY_PREFIX):
            return self._key(credential), None
        if self._tokens is None:
            raise Unauthenticated("the key is unknown to this server")
        claims = self._tokens.read(credential.secret, now)
        if credential.source is CredentialSource.QUERY and not claims.once:
            raise _forbidden_in_query()
        return claims.identity, self._replay_store.use(claims.jti, claims.exp, now) if claims.once else None

    def _key(self, credential: Credential) -> Identity:
        identity = self._keys.find(credential.secret)
        if identity is None:
            raise Unauthenticated("the key is unknown to this server")
        if credential.source is CredentialSource.QUERY:
            raise _forbidden_in_query()
        return identity


def _forbidden_in_query() -> Forbidden:
    return Forbidden("only a single-use token may be sent in the URL")


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Access policy shared by all transports. Without a verifier, every client is accepted anonymously."""

    verifier: Verifier | None
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    origins: Origins = Origins()
    accepts_auth_message: bool = False
    """Clients without a handshake credential may authenticate in a first message, if the protocol version has `auth`.
    """
    refuse_after_upgrade: bool = False
    """Send refusals over the WebSocket (4401, 4403), because a browser hides the status of a failed handshake."""

    @property
    def required(self) -> bool:
        return self.verifier is not None

    async def authenticate(
        self, origin: str | None, host: str | None, credential: Credential | None
    ) -> Identity | None:
        """Authenticate a client; return None if authentication is disabled.

        Raises the errors of `Origins.check` and `Verifier.verify`.
        """
        self.origins.check(origin, host)
        return await self.verify(credential)

    async def verify(self, credential: Credential | None) -> Identity | None:
        """Verify a credential without an origin; return None if authentication is disabled."""
        return await self.verifier.verify(credential, self.wall_clock()) if self.verifier else None

    def new_lease(self, identity: Identity | None, now: float) -> Lease | None:
        """Return the lease of a client, or None if authentication is disabled. `now` is monotonic seconds."""
        return Lease(self.verifier, self.wall_clock, identity, now) if self.verifier and identity else None


class Lease:
    """Authorised time of one connection. It uses the monotonic clock, so a wall clock that jumps ends nothing."""

    def __init__(self, verifier: Verifier, wall_clock: Callable[[], float], identity: Identity, now: float) -> None:
        self._verifier = verifier
        self._wall_clock = wall_clock
        self._subject = identity.subject
        self.expires_at = self._expiry(identity, now)
        """End of the lease in monotonic seconds; infinite for a key."""

    def renew(self, secret: str, now: float) -> Awaitable[None] | None:
        """Extend the lease with a newer token of the same subject. Return None if that is done, or what to await.

        Raises StreamerError for any other credential, and changes nothing then.
        """
        identity, using = self._verifier.begin(Credential(secret, CredentialSource.MESSAGE), self._wall_clock())
        if using is not None:
            return self._renew_after(using, identity, now)
        self._renew(identity, now)
        return None

    async def _renew_after(self, using: Awaitable[None], identity: Identity, now: float) -> None:
        await using
        self._renew(identity, now)

    def _renew(self, identity: Identity, now: float) -> None:
        if identity.subject != self._subject:
            raise Forbidden("the token belongs to another subject: send one of the same subject")
        self.expires_at = self._expiry(identity, now)

    def _expiry(self, identity: Identity, now: float) -> float:
        return math.inf if identity.expires_at is None else now + (identity.expires_at - self._wall_clock())
