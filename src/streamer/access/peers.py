"""Networks whose clients may use a protocol that has no authentication."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network

from streamer.errors import ConfigError

PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
"""Loopback, private (RFC 1918, RFC 4193) and link-local addresses."""


class Peers:
    """Addresses that may connect."""

    def __init__(self, networks: Iterable[str], *, field: str) -> None:
        """Validate the networks. Raises ConfigError that names the setting `field`."""
        self._networks = []
        for text in networks:
            try:
                self._networks.append(ip_network(text))
            except ValueError:
                expected = "addresses or networks, such as 10.0.0.0/8 or fd00::/8"
                raise ConfigError(field=field, expected=expected, got=text) from None

    def allows(self, address: str) -> bool:
        """Return whether an address may connect. Anything else than an IP address may not."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)
