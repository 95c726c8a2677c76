"""Names that a server answers to, and the pages that are its own."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.access import ForbiddenHost, ForbiddenOrigin, Hosts, Origins
from streamer.errors import ConfigError, ErrorCode, StreamerError

LOOPBACK = ["localhost", "localhost:8080", "LocalHost", "asr.localhost:1", "localhost.", "127.0.0.1", "127.8.9.1:8080",
            "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]"]  # fmt: skip
STRANGE = ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "evillocalhost",
           "[::1", "::1]:80", "localhost:8080:80", "evil.example@localhost", "localhost/evil", "a b", "localhost:port",
           "evil.example#.localhost", "\u212aelvin"]  # fmt: skip
ADDRESSES = ["10.1.2.3:8080", "[2001:db8::1]:8080", "192.168.0.7"]


def answers(hosts: Hosts, host: str | None) -> bool:
    try:
        hosts.check(host)
    except ForbiddenHost:
        return False
    return True


@pytest.mark.parametrize("listening", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_on_loopback_only_loopback_names_are_answered(listening: str) -> None:
    hosts = Hosts(listening)
    assert [host for host in LOOPBACK if not answers(hosts, host)] == []
    assert [host for host in [*STRANGE, *ADDRESSES, "0.0.0.0"] if answers(hosts, host)] == []


@pytest.mark.parametrize("listening", ["0.0.0.0", "::", "", "10.1.2.3", "asr.example.org"])
def test_on_a_public_address_every_host_is_answered_unless_names_are_set(listening: str) -> None:
    assert all(answers(Hosts(listening), host) for host in [*LOOPBACK, *STRANGE, *ADDRESSES])
    named = Hosts(listening, ["asr.example.org"])
    assert not any(answers(named, host) for host in STRANGE)
    assert answers(named, "ASR.example.org:8080")
    assert not answers(named, "x.asr.example.org")


def test_what_probes_send_is_answered_when_names_are_set() -> None:
    """An orchestrator asks by the address of the instance, a container's own check by loopback, HTTP/1.0 by nothing."""
    named = Hosts("0.0.0.0", ["asr.example.org"])
    assert all(answers(named, host) for host in [*ADDRESSES, *LOOPBACK, None, ""])
    assert answers(Hosts("127.0.0.1"), None)


def test_names_are_added_to_those_of_loopback() -> None:
    hosts = Hosts("127.0.0.1", ["*.example.org", "10.1.2.3", "[2001:db8::1]"])
    assert all(answers(hosts, host) for host in [*LOOPBACK, "asr.example.org", "a.b.example.org:80", "10.1.2.3"])
    assert answers(hosts, "[2001:db8::1]:8080")
    assert not any(answers(hosts, host) for host in ["example.org", "badexample.org", "10.1.2.4", *STRANGE])
    assert answers(Hosts("127.0.0.1", ["*"]), "evil.example")


@pytest.mark.parametrize(
    "wrong", ["asr.example.org:8080", "https://asr.example.org", "ASR.example.org", "a.*.org", "**"]
)
def test_a_name_that_could_never_match_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.hosts"):
        Hosts("127.0.0.1", [wrong])


NAMES = st.from_regex(r"[a-z0-9-]{1,10}(\.[a-z0-9-]{1,10}){0,3}\.(example|org|com)", fullmatch=True)
PORTS = st.sampled_from(["", ":80", ":8080"])


@given(NAMES, PORTS, st.booleans())
def test_no_name_of_the_internet_is_answered_on_loopback(name: str, port: str, upper: bool) -> None:
    assert not answers(Hosts("127.0.0.1"), (name.upper() if upper else name) + port)


def is_own(origin: str, host: str | None, *, tls: bool = False) -> bool:
    try:
        Origins(tls=tls).check(origin, host)
    except ForbiddenOrigin:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8080", "localhost:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://asr.example.org", "asr.example.org"),
        ("http://asr.example.org", "asr.example.org:80"),
        ("https://asr.example.org", "asr.example.org"),  # a proxy in front speaks TLS and keeps Host
        ("https://asr.example.org", "asr.example.org:443"),
        ("https://asr.example.org:8443", "ASR.example.org:8443"),
    ],
)
def test_a_page_of_the_server_itself_may_connect(origin: str, host: str) -> None:
    assert is_own(origin, host)
    assert is_own(origin, host, tls=True) == origin.startswith("https://")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "localhost:8080"),
        ("http://localhost", "localhost:8080"),  # another port is another site
        ("http://localhost:3000", "localhost:8080"),
        ("http://localhost:8080", "127.0.0.1:8080"),
        ("https://asr.example.org:8443", "asr.example.org"),
        ("https://asr.example.org", "asr.example.org.evil.example"),
        ("https://asr.example.org.evil.example", "asr.example.org"),
        ("http://asr.example.org", None),
        ("http://asr.example.org", ""),
        ("null", "null"),
        ("", ""),
        ("file://", ""),
        ("ftp://asr.example.org", "asr.example.org"),
        ("asr.example.org", "asr.example.org"),
        ("http://asr.example.org/", "asr.example.org"),
        ("http://x@asr.example.org", "asr.example.org"),
        ("HTTP://asr.example.org", "asr.example.org"),
    ],
)
def test_a_page_of_another_site_may_not_connect_unless_it_is_listed(origin: str, host: str | None) -> None:
    assert not is_own(origin, host)
    assert not is_own(origin, host, tls=True)
    Origins(["*"]).check(origin, host)


def test_a_refusal_names_what_came_and_the_setting() -> None:
    with pytest.raises(StreamerError, match=r"'evil\.example'.*server\.hosts") as host:
        Hosts("127.0.0.1").check("evil.example")
    with pytest.raises(StreamerError, match=r"'https://evil\.example'.*access\.origins") as origin:
        Origins().check("https://evil.example", "localhost")
    assert (host.value.code, origin.value.code) == (ErrorCode.FORBIDDEN, ErrorCode.FORBIDDEN_ORIGIN)


def test_a_list_of_origins_says_all_even_of_the_servers_own() -> None:
    with pytest.raises(StreamerError):
        Origins(["https://app.example.org"]).check("https://asr.example.org", "asr.example.org")


@given(st.text(max_size=30), st.none() | st.text(max_size=30), st.booleans())
def test_whatever_is_sent_as_origin_and_host_is_answered_by_yes_or_no(text: str, host: str | None, tls: bool) -> None:
    answers(Hosts("127.0.0.1"), host)
    with suppress(StreamerError):
        Origins(tls=tls).check(text, host)
        assert host
        assert text.partition("://")[2].lower().partition(":")[0] in host.lower()
