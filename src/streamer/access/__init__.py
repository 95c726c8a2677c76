"""Authentication and origin checks: keys, tokens, and their carriers in a request. Pure: the time is an argument."""

from streamer.access.carriers import (
    BEARER_PREFIX,
    QUERY_NAME,
    Carrier,
    Carriers,
    Credential,
    Grant,
    Identity,
    find_credential,
    subprotocol_for,
)
from streamer.access.door import Door, Forbidden, Lease, Verifier
from streamer.access.hosts import ForbiddenHost, Hosts, is_loopback
from streamer.access.keys import Key, KeyRing, new_key
from streamer.access.origins import ForbiddenOrigin, Origins
from streamer.access.proxies import Proxies, ProxyHeader
from streamer.access.replay import Used
from streamer.access.tokens import TokenReader, mint, new_secret

__all__ = [
    "BEARER_PREFIX",
    "QUERY_NAME",
    "Carrier",
    "Carriers",
    "Credential",
    "Door",
    "Forbidden",
    "ForbiddenHost",
    "ForbiddenOrigin",
    "Grant",
    "Hosts",
    "Identity",
    "Key",
    "KeyRing",
    "Lease",
    "Origins",
    "Proxies",
    "ProxyHeader",
    "TokenReader",
    "Used",
    "Verifier",
    "find_credential",
    "is_loopback",
    "mint",
    "new_key",
    "new_secret",
    "subprotocol_for",
]
