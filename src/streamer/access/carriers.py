"""Credentials, where they travel (header, WebSocket subprotocol, first message, address), and whom they identify."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key or a token allows beyond the server's own limits; None leaves it to those."""

    max_sessions: int | None = None
    """Sessions of this subject at a time."""
    max_stream_s: int | None = None
    """Seconds of audio in one stream."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified subject. `expires_at` in seconds since 1970; None for a key, which does not expire."""

    subject: str
    expires_at: float | None = None
    grant: Grant = Grant()


BEARER_PREFIX = "streamer.bearer."
"""Begins the second of the two subprotocols that a browser offers; base64url without padding follows."""
QUERY_NAME = "access_token"
"""RFC 6750, 2.3."""


class Carrier(StrEnum):
    """How a credential came."""

    HEADER = "header"
    """`Authorization: Bearer ...`, over gRPC the metadata of that name."""
    SUBPROTOCOL = "subprotocol"
    MESSAGE = "message"
    QUERY = "query"
    """The address: it ends up in histories and in logs of proxies (never in ours, which hold no address), so only what
    works once may travel there."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A key or a token, unverified."""

    secret: str = field(repr=False)
    carrier: Carrier


def find_credential(authorization: str | None, subprotocols: Iterable[str], query: str | None) -> Credential | None:
    """The credential of a handshake, the safest carrier first; None where there is none.

    `subprotocols`: those that the client offers; `query`: the value of `access_token`. What is there and cannot be read
    is a credential all the same, one that no verifier takes: a client's mistake must not turn into no credential.
    """
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        return Credential(secret.strip() if scheme.lower() == "bearer" else "", Carrier.HEADER)
    for offered in subprotocols:
        if offered.startswith(BEARER_PREFIX):
            return Credential(_decoded(offered.removeprefix(BEARER_PREFIX)), Carrier.SUBPROTOCOL)
    return None if query is None else Credential(query, Carrier.QUERY)


def subprotocol_for(secret: str) -> str:
    """What a browser offers beside `streamer.v2`, of which only that is echoed."""
    return BEARER_PREFIX + base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
