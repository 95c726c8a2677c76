"""The verifier and the lease: one answer per credential, whatever carried it."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.access import (
    Authenticator,
    CredentialSource,
    KeyRing,
    Lease,
    Origins,
    Verifier,
    extract_credential,
    new_key,
    subprotocol_for,
)
from streamer.access.credentials import Credential
from streamer.access.replay_store import InMemoryReplayStore
from streamer.errors import ConfigError, ErrorCode, StreamerError
from tests.access.makers import NOW, OTHER_SECRET, carried, reader, token

KEY, KEPT = new_key("ci")
T = TypeVar("T")


def done(verifying: Coroutine[None, None, T]) -> T:
    """The result of what does not wait, because its store is in this process."""
    with pytest.raises(StopIteration) as end:
        verifying.send(None)
    result: T = end.value.value
    return result


def verifier(bound: int = 100) -> Verifier:
    return Verifier(KeyRing([KEPT]), reader(), InMemoryReplayStore(bound))


def code_of(given: Verifier, credential: Credential | None, now: float = NOW) -> ErrorCode | None:
    try:
        done(given.verify(credential, now))
    except StreamerError as error:
        return error.code
    return None


def test_missing_wrong_expired_and_good() -> None:
    one = verifier()
    assert code_of(one, None) is ErrorCode.UNAUTHENTICATED
    assert code_of(one, carried("sk_wrong")) is ErrorCode.UNAUTHENTICATED
    assert code_of(one, carried(token(OTHER_SECRET))) is ErrorCode.UNAUTHENTICATED
    assert code_of(one, carried(token()), NOW + 61) is ErrorCode.TOKEN_EXPIRED
    assert code_of(one, carried(token())) is None
    assert code_of(one, carried(KEY)) is None


def test_without_secrets_no_token_is_taken() -> None:
    assert code_of(Verifier(KeyRing([KEPT])), carried(token())) is ErrorCode.UNAUTHENTICATED


@pytest.mark.parametrize("carrier", list(CredentialSource))
def test_a_token_that_works_once_works_once_by_every_carrier(carrier: CredentialSource) -> None:
    one, made = verifier(), token(once=True)
    assert code_of(one, carried(made, carrier)) is None
    assert code_of(one, carried(made, carrier)) is ErrorCode.TOKEN_REPLAYED


@pytest.mark.parametrize("exp", [math.nan, math.inf, NOW + 10**12])
def test_a_token_that_works_once_and_never_ends_does_not_work_at_all(exp: float) -> None:
    one, made = verifier(), token(once=True, exp=exp)
    codes = [code_of(one, carried(made), NOW + passed) for passed in (0, 1, 10**6)]
    assert codes == [ErrorCode.UNAUTHENTICATED] * 3


def test_only_a_token_that_works_once_may_travel_in_the_address() -> None:
    one = verifier()
    assert code_of(one, carried(token(), CredentialSource.QUERY)) is ErrorCode.FORBIDDEN
    assert code_of(one, carried(KEY, CredentialSource.QUERY)) is ErrorCode.FORBIDDEN
    assert code_of(one, carried("sk_wrong", CredentialSource.QUERY)) is ErrorCode.UNAUTHENTICATED


def test_used_tokens_are_forgotten_when_they_expire_and_never_before() -> None:
    used = InMemoryReplayStore(bound=2)
    used.use("a", NOW + 10, NOW)
    used.use("b", NOW + 20, NOW)
    with pytest.raises(StreamerError) as full:
        used.use("c", NOW + 20, NOW + 9.9)
    assert full.value.code is ErrorCode.OVERLOADED
    used.use("c", NOW + 20, NOW + 10)
    assert len(used) == 2
    with pytest.raises(StreamerError) as again:
        used.use("b", NOW + 20, NOW + 19)
    assert again.value.code is ErrorCode.TOKEN_REPLAYED


def test_no_error_and_no_repr_holds_the_secret() -> None:
    for credential in (carried("sk_secret", CredentialSource.QUERY), carried("secret.secret.secret")):
        assert "secret" not in repr(credential).replace("secret=", "")
        with pytest.raises(StreamerError) as raised:
            done(verifier().verify(credential, NOW))
        assert "secret" not in str(raised.value)


def test_the_safest_carrier_counts() -> None:
    offered = ("streamer.v2", subprotocol_for("pair"))
    assert extract_credential("Bearer head", offered, "query") == Credential("head", CredentialSource.HEADER)
    assert extract_credential(None, offered, "query") == Credential("pair", CredentialSource.SUBPROTOCOL)
    assert extract_credential(None, ("streamer.v2",), "query") == Credential("query", CredentialSource.QUERY)
    assert extract_credential(None, (), None) is None


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "bearer ", "Token x"])
def test_a_header_of_another_kind_is_a_wrong_credential_and_not_a_missing_one(header: str) -> None:
    assert extract_credential(header, (), "query") == Credential("", CredentialSource.HEADER)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_subprotocol_carries_any_secret_in_letters_a_header_may_have(secret: str) -> None:
    offered = subprotocol_for(secret)
    assert all(letter.isalnum() or letter in "-_." for letter in offered)
    assert extract_credential(None, [offered], None) == Credential(secret, CredentialSource.SUBPROTOCOL)


@given(st.text(max_size=50))
def test_no_subprotocol_breaks_the_reader(text: str) -> None:
    found = extract_credential(None, [f"streamer.bearer.{text}"], None)
    assert found is not None


def test_origins_are_compared_exactly() -> None:
    origins = Origins(["https://app.example.org"])
    origins.check("https://app.example.org", "asr.example.org")
    origins.check(None, "asr.example.org")
    for foreign in ("https://app.example.org.evil.example", "http://app.example.org", "null", "",
                    "https://app.example.org:8443", "https://APP.example.org"):  # fmt: skip
        with pytest.raises(StreamerError) as raised:
            origins.check(foreign, "asr.example.org")
        assert raised.value.code is ErrorCode.FORBIDDEN_ORIGIN
    Origins(["*"]).check("https://anybody.example", "asr.example.org")


@pytest.mark.parametrize("wrong", ["app.example.org", "https://app.example.org/", "https://App.example.org", ""])
def test_an_origin_that_could_never_match_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"access\.origins"):
        Origins([wrong])
    with pytest.raises(ConfigError, match=r"access\.origins"):
        Origins(["https://app.example.org", "*"])


class Wall:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def test_a_lease_ends_with_its_token_whatever_the_wall_clock_does_meanwhile() -> None:
    wall = Wall()
    door = Authenticator(verifier(), wall)
    lease = door.new_lease(done(door.verify(carried(token()))), now=5.0)
    assert lease is not None
    wall.now += 3_600
    assert lease.expires_at == 65.0


def test_a_newer_token_of_the_same_subject_prolongs_a_lease() -> None:
    wall = Wall()
    door = Authenticator(verifier(), wall)
    lease = door.new_lease(done(door.verify(carried(token()))), now=5.0)
    assert isinstance(lease, Lease)
    wall.now += 30
    lease.renew(token(exp=int(NOW) + 300), now=35.0)
    assert lease.expires_at == 35.0 + 270
    for wrong in (token(sub="bob"), token(OTHER_SECRET), token(exp=int(NOW) + 30)):
        with pytest.raises(StreamerError):
            lease.renew(wrong, now=36.0)
    assert lease.expires_at == 35.0 + 270


def test_a_key_leases_for_ever_and_an_open_door_not_at_all() -> None:
    door = Authenticator(verifier(), Wall())
    lease = door.new_lease(done(door.verify(carried(KEY))), now=5.0)
    assert lease is not None
    assert lease.expires_at == float("inf")
    open_door = Authenticator(None, Wall())
    assert done(open_door.authenticate(None, None, None)) is None
    assert open_door.new_lease(None, 5.0) is None
