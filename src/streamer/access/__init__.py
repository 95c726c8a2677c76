"""Authentication and origin checks: keys, tokens, and their carriers in a request. Pure: the time is an argument."""

from streamer.access.authenticator import Authenticator, Forbidden, Lease, Verifier
from streamer.access.credentials import (
    BEARER_PREFIX,
    QUERY_NAME,
    Carriers,
    Credential,
    CredentialSource,
    Identity,
    SubjectLimits,
    extract_credential,
    subprotocol_for,
)
from streamer.access.hosts import ForbiddenHost, Hosts, is_loopback
from streamer.access.keys import Key, KeyRing, new_key
from streamer.access.origins import ForbiddenOrigin, Origins
from streamer.access.proxies import Proxies, ProxyHeader
from streamer.access.replay_store import ReplayStore
from streamer.access.tokens import TokenReader, mint, new_secret

__all__ = [
    "BEARER_PREFIX",
    "QUERY_NAME",
    "Authenticator",
    "Carriers",
    "Credential",
    "CredentialSource",
    "Forbidden",
    "ForbiddenHost",
    "ForbiddenOrigin",
    "Hosts",
    "Identity",
    "Key",
    "KeyRing",
    "Lease",
    "Origins",
    "Proxies",
    "ProxyHeader",
    "ReplayStore",
    "SubjectLimits",
    "TokenReader",
    "Verifier",
    "extract_credential",
    "is_loopback",
    "mint",
    "new_key",
    "new_secret",
    "subprotocol_for",
]
