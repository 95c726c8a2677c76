"""What the tests of access share: servers that ask who connects, tokens, and the ways to carry one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamer.access import new_key, new_secret, subprotocol_for
from streamer.access.tokens import parse_secrets
from tests.access.makers import token as minted
from tests.faults.arena import LocalArena
from tests.faults.servers import serving

KEY, KEPT = new_key("neighbour")
SECRET_LINE = new_secret()
SECRET = parse_secrets(SECRET_LINE)[0]
WRONG = b"w" * 32
PAGE = "https://app.example.org"
FOREIGN = "https://evil.example"
NOTHING: Mapping[str, Any] = {"headers": {}}


def token(secret: bytes = SECRET, *, ttl: float = 60, age: float = 0, **claims: Any) -> str:
    now = time.time() - age
    return minted(secret, iat=now, exp=now + ttl, **claims)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@asynccontextmanager
async def asking(folder: Path, **access: Any) -> AsyncIterator[LocalArena]:
    """A server that asks who connects; its neighbour has a key."""
    secrets = folder / "secrets"
    secrets.write_text(SECRET_LINE)
    asks = {"keys": [str(KEPT)], "token_secrets_file": str(secrets), "origins": [PAGE], **access}
    async with serving(bearer(KEY), server={"handshake_timeout_s": 0.5}, access=asks) as arena:
        yield arena


@dataclass(frozen=True)
class Carrier:
    """How a secret travels: the options of a connection that shows it."""

    way: str
    options: Callable[[str], Mapping[str, Any]]

    def __call__(self, secret: str) -> Mapping[str, Any]:
        return self.options(secret)


CARRIERS = {
    "header": Carrier("v2", lambda secret: {"headers": bearer(secret)}),
    "subprotocol": Carrier("v2", lambda secret: {"headers": {}, "protocols": ("streamer.v2", subprotocol_for(secret))}),
    "query": Carrier("v2", lambda secret: {"headers": {}, "query": f"?access_token={quote(secret)}"}),
    "metadata": Carrier("grpc", lambda secret: {"headers": bearer(secret)}),
}
