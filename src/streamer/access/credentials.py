"""Credentials, how they are sent (header, WebSocket subprotocol, first message, URL), and whom they identify."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class SubjectLimits:
    """Limits of a key or token, in addition to the server's own; None for no limit."""

    max_sessions: int | None = None
    """Concurrent sessions of the subject."""
    max_stream_s: int | None = None
    """Seconds of audio per stream."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified subject. `expires_at`: seconds since 1970; None for a key, which does not expire."""

    subject: str
    expires_at: float | None = None
    limits: SubjectLimits = SubjectLimits()


BEARER_PREFIX = "streamer.bearer."
"""Prefix of the second of the two subprotocols that a browser offers; base64url without padding follows."""
QUERY_NAME = "access_token"
"""Query parameter of the URL (RFC 6750, 2.3)."""


class CredentialSource(StrEnum):
    """How a credential was sent."""

    HEADER = "header"
    """`Authorization: Bearer ...`; over gRPC the metadata of that name."""
    SUBPROTOCOL = "subprotocol"
    MESSAGE = "message"
    QUERY = "query"
    """The URL. URLs end up in histories and in logs of proxies (never in ours), so only single-use tokens are accepted
    there."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An unverified key or token."""

    secret: str = field(repr=False)
    source: CredentialSource


def extract_credential(authorization: str | None, subprotocols: Iterable[str], query: str | None) -> Credential | None:
    """Return the credential of a handshake from the safest source, or None if it has no credential.

    `subprotocols`: those that the client offers. `query`: the value of `access_token`. A malformed credential is
    returned as an invalid one, never as None, so a client error cannot become anonymous access.
    """
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        return Credential(secret.strip() if scheme.lower() == "bearer" else "", CredentialSource.HEADER)
    for offered in subprotocols:
        if offered.startswith(BEARER_PREFIX):
            return Credential(_decode(offered.removeprefix(BEARER_PREFIX)), CredentialSource.SUBPROTOCOL)
    return None if query is None else Credential(query, CredentialSource.QUERY)


@dataclass(frozen=True, slots=True)
class Carriers:
    """Carriers of a credential in a handshake. The default ones are those of the native protocol.

    `schemes`: of the header Authorization, in lower case; an empty one stands for a credential without a scheme.
    `headers`: other headers that hold a credential, in lower case. `pairs`: subprotocols that precede a credential in
    the list of a browser. `prefix`: of a subprotocol that holds a credential. `parameters`: names in the query, beside
    `access_token`.
    """

    schemes: tuple[str, ...] = ("bearer",)
    headers: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    prefix: str = ""
    parameters: tuple[str, ...] = ()

    def find(
        self, headers: Mapping[str, str], subprotocols: Sequence[str], query: Mapping[str, str]
    ) -> Credential | None:
        """Return the credential of a handshake from the safest source, or None if it has no credential.

        `headers`: case-insensitive, or by names in lower case. A malformed credential is returned as an invalid one.
        """
        authorization = headers.get("authorization")
        if authorization is not None:
            return Credential(self._authorized(authorization.strip()), CredentialSource.HEADER)
        for name in self.headers:
            if (secret := headers.get(name)) is not None:
                return Credential(secret.strip(), CredentialSource.HEADER)
        for name, secret in pairwise(subprotocols):
            if name in self.pairs:
                return Credential(secret, CredentialSource.SUBPROTOCOL)
        if self.prefix:
            for offered in subprotocols:
                if offered.startswith(self.prefix):
                    return Credential(offered.removeprefix(self.prefix), CredentialSource.SUBPROTOCOL)
        for name in self.parameters:
            if (secret := query.get(name)) is not None:
                return Credential(secret, CredentialSource.QUERY)
        return extract_credential(None, subprotocols, query.get(QUERY_NAME))

    def _authorized(self, value: str) -> str:
        scheme, separator, secret = value.partition(" ")
        if separator:
            return secret.strip() if scheme.lower() in self.schemes else ""
        return value if "" in self.schemes else ""


def subprotocol_for(secret: str) -> str:
    """Return the subprotocol by which a browser sends a token. It is offered beside `streamer.v2` and not echoed."""
    return BEARER_PREFIX + base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def _decode(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
