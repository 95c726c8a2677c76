"""A client behind trusted proxies is known by its own address, and nobody can claim another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.access import Proxies, ProxyHeader
from streamer.errors import ConfigError

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.7.7", "203.0.113.9"
FORWARDED = Proxies(["10.0.0.0/8", "fd00::/8"])
LISTED = Proxies(["10.0.0.0/8", "fd00::/8"], ProxyHeader.X_FORWARDED_FOR)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=203.0.113.9"], CLIENT),
        (["For=203.0.113.9;proto=https;by=10.0.0.1"], CLIENT),
        (['proto=https; for="203.0.113.9:4711"'], CLIENT),
        (['for="[2001:db8::7]:4711"'], "2001:db8::7"),
        (['for="[::ffff:203.0.113.9]"'], CLIENT),
        (["for=6.6.6.6, for=203.0.113.9, for=10.0.7.7"], CLIENT),
        (["for=6.6.6.6", "for=203.0.113.9"], CLIENT),
        (['for=6.6.6.6;ext="a,b\\"c;for=7.7.7.7", for=203.0.113.9'], CLIENT),
        (["for=10.0.7.7"], INNER),
        (["for=6.6.6.6, for=unknown"], PROXY),
        (["for=6.6.6.6, for=_hidden, for=10.0.7.7"], INNER),
        (["for=6.6.6.6, proto=https"], PROXY),
        (["for=6.6.6.6, for=999.1.1.1"], PROXY),
        ([], PROXY),
        ([""], PROXY),
    ],
)
def test_forwarded_names_the_last_one_that_is_no_trusted_proxy(lines: list[str], client: str) -> None:
    assert FORWARDED.client_of(PROXY, lines) == client


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["203.0.113.9"], CLIENT),
        (["6.6.6.6, 203.0.113.9,10.0.7.7"], CLIENT),
        (["6.6.6.6", "203.0.113.9:4711"], CLIENT),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["6.6.6.6, ???"], PROXY),
    ],
)
def test_a_list_of_addresses_is_read_from_its_end(lines: list[str], client: str) -> None:
    assert LISTED.client_of(PROXY, lines) == client


def test_a_stranger_claims_nothing_and_a_proxy_only_by_the_header_that_is_set() -> None:
    assert FORWARDED.client_of(CLIENT, ["for=6.6.6.6"]) == CLIENT
    assert Proxies().client_of(PROXY, ["for=6.6.6.6"]) == PROXY
    by_connection = Proxies(["10.0.0.0/8"], ProxyHeader.PROXY_PROTOCOL)
    assert by_connection.client_of(PROXY, ["for=6.6.6.6"]) == PROXY
    assert by_connection.begins_with_header(PROXY)
    assert not by_connection.begins_with_header(CLIENT)
    assert not FORWARDED.begins_with_header(PROXY)


def test_an_ipv4_proxy_is_known_on_an_ipv6_socket() -> None:
    assert FORWARDED.trusts("::ffff:10.0.0.1")
    assert FORWARDED.trusts("fd00::1%eth0")
    assert not FORWARDED.trusts("unknown")


def test_what_is_no_network_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"server.trusted_proxies: expected .*, got '10.0.0.1/8'"):
        Proxies(["10.0.0.1/8"])


@given(st.text(), st.sampled_from([FORWARDED, LISTED]))
def test_whatever_comes_before_the_last_hop_changes_nothing(rest: str, proxies: Proxies) -> None:
    last = "for=203.0.113.9" if proxies is FORWARDED else CLIENT
    assert proxies.client_of(PROXY, [rest, last]) == CLIENT


@given(st.lists(st.text()), st.sampled_from([FORWARDED, LISTED]))
def test_any_header_is_read(lines: list[str], proxies: Proxies) -> None:
    assert proxies.client_of(PROXY, lines)
