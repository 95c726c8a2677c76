"""Tokens for tests, made at a time of the test's choosing."""

from __future__ import annotations

from itertools import count

import msgspec

from streamer.access import Credential, CredentialSource, TokenReader
from streamer.access.tokens import Claims, mint

SECRET = b"s" * 32
OTHER_SECRET = b"o" * 32
NOW = 1_700_000_000.0
_ids = count(1)

CLAIMS = Claims(sub="alice", jti="id", iat=int(NOW), exp=int(NOW) + 60)


def token(secret: bytes = SECRET, **claims: object) -> str:
    """A token of alice's for a minute from NOW, unless said otherwise; each has an id of its own."""
    return mint(msgspec.structs.replace(CLAIMS, **({"jti": f"id-{next(_ids)}"} | claims)), secret)


def reader(*secrets: bytes, max_life_s: float = 3_600) -> TokenReader:
    return TokenReader(secrets or (SECRET,), max_life_s=max_life_s)


def carried(secret: str, carrier: CredentialSource = CredentialSource.HEADER) -> Credential:
    return Credential(secret, carrier)
