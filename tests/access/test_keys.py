"""Keys: made once, kept as hashes."""

from __future__ import annotations

import pytest

from streamer.access import Key, KeyRing, new_key
from streamer.errors import ConfigError


def test_a_key_is_found_by_its_secret_and_by_nothing_else() -> None:
    secret, alice = new_key("alice")
    other, bob = new_key("bob")
    ring = KeyRing([alice, bob])
    assert (found := ring.find(secret)) is not None
    assert found.subject == "alice"
    assert found.expires_at is None
    assert ring.find(other) != found
    for wrong in ("", secret[:-1], secret + "A", secret.upper(), alice.digest, str(alice), "sk_\ud800"):
        assert ring.find(wrong) is None


def test_what_is_kept_of_a_key_reads_back_and_does_not_hold_it() -> None:
    secret, key = new_key("ci@example.org")
    assert Key.parse(str(key)) == key
    assert secret not in str(key)
    assert len(secret) >= 43


@pytest.mark.parametrize(
    "text", ["", "alice", ":" + "0" * 64, "a b:" + "0" * 64, "alice:" + "0" * 63, "alice:" + "G" * 64]
)
def test_a_wrong_entry_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"access\.keys"):
        Key.parse(text)


def test_a_key_put_where_its_hash_belongs_is_not_shown() -> None:
    secret, _ = new_key("alice")
    with pytest.raises(ConfigError) as raised:
        Key.parse(f"alice:{secret}")
    assert secret not in str(raised.value)
