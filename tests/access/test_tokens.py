"""Tokens: signed, of now, short-lived, and otherwise refused without saying why."""

from __future__ import annotations

import base64
import json
import math

import jwt
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.access import Identity, SubjectLimits, new_secret
from streamer.access.tokens import CLOCK_SKEW_S, MAX_TOKEN_CHARS, Claims, TokenExpired, Unauthenticated, parse_secrets
from streamer.errors import ConfigError
from tests.access.makers import CLAIMS, NOW, OTHER_SECRET, SECRET, reader, token


def test_a_token_says_who_until_when_and_how_much() -> None:
    claims = reader().read(token(max_sessions=2, max_stream_s=60), NOW)
    assert claims.identity == Identity("alice", NOW + 60, SubjectLimits(2, 60))


def test_a_token_ends_at_its_second() -> None:
    made = token()
    assert reader().read(made, NOW + 59.999)
    with pytest.raises(TokenExpired):
        reader().read(made, NOW + 60)


def test_a_token_made_for_too_long_is_refused() -> None:
    assert reader().read(token(exp=int(NOW) + 3_600), NOW)
    with pytest.raises(Unauthenticated, match="3600 s"):
        reader().read(token(exp=int(NOW) + 3_601), NOW)


def test_a_minter_whose_clock_is_a_little_ahead_is_believed() -> None:
    assert reader().read(token(), NOW - CLOCK_SKEW_S)
    with pytest.raises(Unauthenticated, match="future"):
        reader().read(token(), NOW - CLOCK_SKEW_S - 1)


def test_a_token_counts_from_its_not_before_on() -> None:
    made = signed(nbf=int(NOW) + 50)
    assert reader().read(made, NOW + 50 - CLOCK_SKEW_S)
    with pytest.raises(Unauthenticated, match="not valid yet"):
        reader().read(made, NOW + 50 - CLOCK_SKEW_S - 1)


def test_secrets_can_be_changed_while_old_tokens_are_out() -> None:
    both = reader(OTHER_SECRET, SECRET)
    assert both.read(token(SECRET), NOW)
    assert both.read(token(OTHER_SECRET), NOW)
    with pytest.raises(Unauthenticated):
        reader(OTHER_SECRET).read(token(SECRET), NOW)


def _unsigned() -> str:
    words = [{"alg": "none", "typ": "JWT"}, msgspec.to_builtins(CLAIMS)]
    return ".".join(base64.urlsafe_b64encode(json.dumps(w).encode()).decode().rstrip("=") for w in words) + "."


KEYS = {"HS256": SECRET, "HS512": SECRET * 2}


def signed(algorithm: str = "HS256", **changed: object) -> str:
    return jwt.encode(msgspec.to_builtins(CLAIMS) | {"aud": "streamer"} | changed, KEYS[algorithm], algorithm)


def _without(name: str) -> str:
    claims = {key: value for key, value in msgspec.to_builtins(CLAIMS).items() if key != name} | {"aud": "streamer"}
    if name == "aud":
        del claims["aud"]
    return jwt.encode(claims, SECRET)


@pytest.mark.parametrize(
    "made",
    [
        "", "a", "a.b", "a.b.c", "a.b.c.d", "é.b.c", "." * 100, "x" * (MAX_TOKEN_CHARS + 1),
        _unsigned(), signed(aud="elsewhere"), signed("HS512"),
        *(_without(name) for name in ("sub", "jti", "iat", "exp", "aud")),
        signed(exp="soon"), signed(nbf="now"), signed(nbf=None), signed(nbf=True), signed(iat=False), signed(exp=[1]),
        token(sub=""), token(max_sessions=0), token(sub="x" * 129),
    ],
)  # fmt: skip
def test_what_is_no_token_of_ours_is_refused(made: str) -> None:
    with pytest.raises(Unauthenticated):
        reader().read(made, NOW)


@given(st.data())
def test_no_letter_of_a_token_can_be_changed(data: st.DataObject) -> None:
    made = token(jti="fixed")
    at = data.draw(st.integers(0, len(made) - 2))  # the last letter of base64url may carry bits that do not count
    letter = data.draw(st.sampled_from("ABCxyz019-_."))
    changed = made[:at] + letter + made[at + 1 :]
    if changed == made:
        return
    with pytest.raises(Unauthenticated):
        reader().read(changed, NOW)


WEIRD = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.sampled_from(
        [math.nan, math.inf, -math.inf, -0.0, 1e300, 2**63, 10**4_200, True, False, None, "1", "NaN", [], {}]
    ),
    st.floats(NOW - 7_200, NOW + 7_200),
)


def in_bounds(claims: Claims) -> bool:
    """Whether a token that was let in lives now, and for no longer than tokens may."""
    times = (claims.iat, claims.not_before, claims.exp)
    return (
        all(type(time) in (int, float) and math.isfinite(time) and time >= 0 for time in times)
        and claims.exp - claims.iat <= 3_600
        and max(claims.iat, claims.not_before) <= NOW + CLOCK_SKEW_S
        and claims.exp > NOW
    )


@given(st.fixed_dictionaries({}, optional={"iat": WEIRD, "nbf": WEIRD, "exp": WEIRD}))
@example({"exp": math.nan})
@example({"iat": math.nan, "exp": NOW + 10**9})
@example({"nbf": math.nan})
@example({"iat": 10**400, "exp": 1.5})
def test_whatever_times_a_token_names_it_is_of_now_or_refused(times: dict[str, object]) -> None:
    try:
        claims = reader().read(signed(**times), NOW)
    except (Unauthenticated, TokenExpired):
        return
    assert in_bounds(claims)


@given(st.text(max_size=200))
def test_any_text_is_answered_by_unauthenticated(text: str) -> None:
    with pytest.raises(Unauthenticated):
        reader().read(text, NOW)


def test_secrets_are_read_one_per_line() -> None:
    first, second = new_secret(), new_secret()
    assert len(parse_secrets(f"# the new one\n{first}\n\n  {second} # until May\n")) == 2


@pytest.mark.parametrize("text", ["", "# none\n", "short", "not base64 !!", "é" * 44])
def test_a_wrong_file_of_secrets_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_secrets(text)
    assert not text or text not in str(raised.value)


def test_claims_leave_out_what_was_not_said() -> None:
    assert msgspec.to_builtins(Claims("a", "b", 1, 2)) == {"sub": "a", "jti": "b", "iat": 1, "exp": 2}
