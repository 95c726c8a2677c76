"""Networks that may use a protocol without authentication."""

from __future__ import annotations

import pytest

from streamer.access.peers import PRIVATE_NETWORKS, Peers
from streamer.errors import ConfigError


def test_networks_are_checked_when_the_server_starts() -> None:
    with pytest.raises(ConfigError, match=r"dialects\.wyoming_peers.*got 'home'"):
        Peers(("home",), field="dialects.wyoming_peers")


def test_addresses_of_the_networks_are_allowed_in_every_form_and_no_others() -> None:
    peers = Peers(("10.0.0.0/8", "fd00::/8"), field="peers")
    assert all(map(peers.allows, ("10.2.3.4", "::ffff:10.2.3.4", "fd00::1%eth0")))
    assert not any(map(peers.allows, ("11.0.0.1", "::ffff:11.0.0.1", "fe80::1", "unknown", "")))


def test_public_addresses_are_not_among_the_private_ones() -> None:
    peers = Peers(PRIVATE_NETWORKS, field="peers")
    assert all(map(peers.allows, ("127.0.0.1", "192.168.1.7", "172.31.0.1", "::1", "fe80::1")))
    assert not any(map(peers.allows, ("8.8.8.8", "172.32.0.1", "2001:db8::1", "100.64.0.1")))
