"""The one place that says who somebody is."""

from __future__ import annotations

from streamer.access.carriers import Carrier, Credential
from streamer.access.identity import Identity
from streamer.access.keys import KEY_PREFIX, KeyRing
from streamer.access.replay import ReplayCache, Used
from streamer.access.tokens import Claims, TokenReader, Unauthenticated
from streamer.errors import ErrorCode, StreamerError


class Forbidden(StreamerError):
    """It is known who that is, and it is not allowed."""

    code = ErrorCode.FORBIDDEN


class Verifier:
    """A credential to an identity. `now` is seconds since 1970: tokens travel between machines."""

    def __init__(self, keys: KeyRing, tokens: TokenReader | None = None, used: Used | None = None) -> None:
        self._keys = keys
        self._tokens = tokens
        self._used = used or ReplayCache()

    def verify(self, credential: Credential | None, now: float) -> Identity:
        """Whose credential this is; a single-use token is used up by that.

        Raises StreamerError with the code unauthenticated, token_expired, token_replayed, forbidden, or overloaded
        (more single-use tokens are out than can be remembered). No message holds any part of the credential.
        """
        if credential is None:
            raise Unauthenticated("a key or a token is needed")
        if credential.secret.startswith(KEY_PREFIX):
            return self._key(credential)
        if self._tokens is None:
            raise Unauthenticated("the key is not known here")
        claims = self._tokens.read(credential.secret, now)
        if credential.carrier is Carrier.QUERY and not claims.once:
            raise _not_in_the_address()
        self._use(claims, now)
        return claims.identity

    def _key(self, credential: Credential) -> Identity:
        identity = self._keys.find(credential.secret)
        if identity is None:
            raise Unauthenticated("the key is not known here")
        if credential.carrier is Carrier.QUERY:
            raise _not_in_the_address()
        return identity

    def _use(self, claims: Claims, now: float) -> None:
        if claims.once:
            self._used.use(claims.jti, claims.exp, now)


def _not_in_the_address() -> Forbidden:
    return Forbidden("only a token that works once may travel in the address")
