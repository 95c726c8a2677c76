"""Addresses of clients behind trusted proxies, by RFC 7239's `Forwarded` or by `X-Forwarded-For`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice

from streamer.errors import ConfigError

MAX_HOPS = 32
"""Proxies of one request that are looked at, from the last one back."""
_FOR = re.compile(r"""for[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]+))""", re.IGNORECASE)
_ELEMENT = re.compile(r"""(?:[^,"]|"(?:[^"\\]|\\.)*")+""")
_NODE = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::[0-9A-Za-z._-]+)?")


class ProxyHeader(StrEnum):
    """The one way in which trusted proxies tell the address of their client."""

    FORWARDED = "forwarded"
    X_FORWARDED_FOR = "x-forwarded-for"
    PROXY_PROTOCOL = "proxy-protocol"
    """A header of HAProxy's PROXY protocol at the start of each connection, version 1 or 2."""


class Proxies:
    """Trusted proxies, and what they say about their clients."""

    def __init__(self, networks: Iterable[str] = (), header: ProxyHeader = ProxyHeader.FORWARDED) -> None:
        """Validate the setting. Raises ConfigError. `networks`: addresses, or networks as 10.0.0.0/8."""
        self._networks = [_network(text) for text in networks]
        self.header = ProxyHeader(header)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._networks)

    def trusts(self, address: str | None) -> bool:
        """Return whether an address is a trusted proxy's."""
        ip = _ip(address) if address and self._networks else None
        return ip is not None and any(ip in network for network in self._networks)

    def begins_with_header(self, address: str) -> bool:
        """Return whether a connection from an address begins with a header of the PROXY protocol."""
        return self.header is ProxyHeader.PROXY_PROTOCOL and self.trusts(address)

    def client_of(self, peer: str, lines: Sequence[str]) -> str:
        """Return the address of the client of a request: the last one that is not a trusted proxy's.

        `peer`: address at the other end of the connection. `lines`: values of the header, in order. Each proxy appends
        the address that it saw, so only those at the end are true. A hop that cannot be read ends the search.
        """
        if self.header is ProxyHeader.PROXY_PROTOCOL or not self.trusts(peer):
            return peer
        client = peer
        for hop in islice(self._hops(lines), MAX_HOPS):
            ip = _ip(hop)
            if ip is None:
                break
            client = str(ip)
            if not self.trusts(client):
                break
        return client

    def _hops(self, lines: Sequence[str]) -> Iterator[str | None]:
        """Yield the address of each hop from the last one back; None for one that hides it."""
        for line in reversed(lines):
            if self.header is ProxyHeader.X_FORWARDED_FOR:
                yield from (_node(word.strip()) for word in reversed(line.split(",")))
            else:
                yield from (_forwarded_for(element) for element in reversed(_ELEMENT.findall(line)))


def _forwarded_for(element: str) -> str | None:
    found = _FOR.search(element)
    return None if found is None else _node(found[1] if found[1] is not None else found[2])


def _node(text: str) -> str | None:
    """Return the address of a node identifier (RFC 7239, 6): IPv4 or IPv6, with or without a port."""
    if _ip(text) is not None:  # X-Forwarded-For has IPv6 addresses without brackets
        return text
    match = _NODE.fullmatch(text)
    return None if match is None else match[1] or match[2]


def _ip(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        expected = "addresses or networks, such as 10.0.0.0/8 or fd00::/8"
        raise ConfigError(field="server.trusted_proxies", expected=expected, got=text) from None
