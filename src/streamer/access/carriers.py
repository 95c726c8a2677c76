"""Credentials, how they are sent (header, WebSocket subprotocol, first message, URL), and whom they identify."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Grant:
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
    grant: Grant = Grant()


BEARER_PREFIX = "streamer.bearer."
"""Prefix of the second of the two subprotocols that a browser offers; base64url without padding follows."""
QUERY_NAME = "access_token"
"""Query parameter of the URL (RFC 6750, 2.3)."""


class Carrier(StrEnum):
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
    carrier: Carrier


def find_credential(authorization: str | None, subprotocols: Iterable[str], query: str | None) -> Credential | None:
    """Return the credential of a handshake from the safest source, or None if it has no credential.

    `subprotocols`: those that the client offers. `query`: the value of `access_token`. A malformed credential is
    returned as an invalid one, never as None, so a client error cannot become anonymous access.
    """
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        return Credential(secret.strip() if scheme.lower() == "bearer" else "", Carrier.HEADER)
    for offered in subprotocols:
        if offered.startswith(BEARER_PREFIX):
            return Credential(_decoded(offered.removeprefix(BEARER_PREFIX)), Carrier.SUBPROTOCOL)
    return None if query is None else Credential(query, Carrier.QUERY)


def subprotocol_for(secret: str) -> str:
    """Return the subprotocol by which a browser sends a token. It is offered beside `streamer.v2` and not echoed."""
    return BEARER_PREFIX + base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
