"""Short-lived signed tokens: JSON Web Tokens (RFC 7519) with HMAC-SHA-256, by PyJWT."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec

from streamer.access.credentials import Identity, SubjectLimits
from streamer.errors import ConfigError, ErrorCode, StreamerError

if TYPE_CHECKING:
    from jwt.types import Options

AUDIENCE = "streamer"
MAX_TOKEN_CHARS = 4_096
MIN_SECRET_BYTES = 32
"""Length of the hash (RFC 7518, 3.2)."""
CLOCK_SKEW_S = 30.0
"""Accepted lead of the issuer's clock."""
MAX_TIME = 253_402_300_799
"""End of the year 9999 in seconds since 1970, the latest accepted time."""
_ALGORITHM = "HS256"
_NO_TIME_CHECKS: Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
"""PyJWT checks no times: they are compared with the caller's clock."""


class Unauthenticated(StreamerError):
    """The credential is missing or invalid."""

    code = ErrorCode.UNAUTHENTICATED


class TokenExpired(StreamerError):
    """The token was valid and has expired."""

    code = ErrorCode.TOKEN_EXPIRED


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """Claims of a token, without its audience. `iat`, `exp` and `nbf` in seconds since 1970."""

    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    iat: int | float
    exp: int | float
    once: bool = False
    """Whether the token is single-use."""
    max_sessions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_stream_s: Annotated[int, msgspec.Meta(ge=1)] | None = None
    nbf: int | float | msgspec.UnsetType = msgspec.UNSET
    """Start of the token's validity (RFC 7519, 4.1.5)."""
    use_by: int | float | None = None
    """Last time at which a session may begin; None: `exp`, at which a session ends."""

    @property
    def not_before(self) -> int | float:
        """Start of the token's validity: `nbf`, or `iat` by default."""
        return self.iat if isinstance(self.nbf, msgspec.UnsetType) else self.nbf

    @property
    def has_valid_times(self) -> bool:
        """Whether every time is finite and within the calendar. Any comparison with NaN is false."""
        return all(0 <= time <= MAX_TIME for time in (self.iat, self.not_before, self.exp))

    @property
    def identity(self) -> Identity:
        return Identity(self.sub, self.exp, SubjectLimits(self.max_sessions, self.max_stream_s))


class TokenReader:
    """Reads tokens signed with any of `secrets_` (several during a change of the secret)."""

    def __init__(self, secrets_: Sequence[bytes], *, max_life_s: float) -> None:
        """Load PyJWT. `max_life_s`: longest lifetime of a token that is accepted."""
        import jwt  # noqa: PLC0415 (it imports cryptography, 60 ms that only servers with secrets need)

        self._jwt = jwt
        self._secrets = tuple(secrets_)
        self._max_life_s = max_life_s

    def read(self, token: str, now: float) -> Claims:
        """Return the claims of a token that is valid `now` (seconds since 1970).

        Raises Unauthenticated or TokenExpired.
        """
        claims = self._verify_signature(token)
        if not claims.has_valid_times:
            raise Unauthenticated("the token's iat, nbf and exp: expected seconds since 1970")
        if claims.exp - claims.iat > self._max_life_s:
            raise Unauthenticated(f"the token is valid for longer than the allowed {self._max_life_s:g} s")
        if claims.iat > now + CLOCK_SKEW_S:
            raise Unauthenticated("the token was issued in the future (iat): check the clocks")
        if claims.not_before > now + CLOCK_SKEW_S:
            raise Unauthenticated("the token is not valid yet (nbf): check the clocks")
        if claims.exp <= now or (claims.use_by is not None and not now < claims.use_by):
            raise TokenExpired("the token has expired")
        return claims

    def _verify_signature(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise Unauthenticated("the token is malformed")
        jwt = self._jwt
        for secret in self._secrets:
            try:
                payload = jwt.decode(token, secret, algorithms=[_ALGORITHM], audience=AUDIENCE, options=_NO_TIME_CHECKS)
                return msgspec.convert(payload, Claims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError):
                break  # do not disclose the reason
        raise Unauthenticated("the token is malformed, or not signed by this server")


def mint(claims: Claims, secret: bytes) -> str:
    """Return a signed token, in base64url and dots."""
    import jwt  # noqa: PLC0415 (as above)

    return jwt.encode(msgspec.to_builtins(claims) | {"aud": AUDIENCE}, secret, _ALGORITHM)


def new_secret() -> str:
    """Return a line for the file of secrets: 256 random bits in base64url."""
    return secrets.token_urlsafe(MIN_SECRET_BYTES)


def parse_secrets(text: str) -> list[bytes]:
    """Parse a file of secrets: one per line in base64url; empty lines and comments after # are skipped.

    Raises ConfigError, whose message contains no part of a secret.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            secret = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(
                f"line {number}: expected a secret in base64url, as `streamer token secret` prints"
            ) from None
        if len(secret) < MIN_SECRET_BYTES:
            raise ConfigError(f"line {number}: expected at least {MIN_SECRET_BYTES} bytes, got {len(secret)}")
        found.append(secret)
    if not found:
        raise ConfigError("expected at least one secret, as `streamer token secret` prints, got none")
    return found
