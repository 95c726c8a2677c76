"""Static keys: random, shown once, stored as hashes.

The hash is one round of SHA-256. A slow, salted hash (argon2, scrypt) protects secrets that people choose, because
those can be guessed. A key has 256 random bits and cannot be guessed, so a slow hash would only let a stranger burn the
server's CPU.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.access.credentials import Identity
from streamer.errors import ConfigError

KEY_PREFIX = "sk_"
"""Prefix of every key, by which secret scanners and the verifier recognise one."""
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key: its subject, and its SHA-256 in hexadecimal."""

    subject: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """Parse `subject:digest`, as printed by `streamer key new`. Raises ConfigError."""
        subject, _, digest = text.strip().partition(":")
        # The error does not show the value: it might be the key itself.
        if not _SUBJECT.fullmatch(subject):
            raise _config_error("subject:hash, with a subject of at most 64 letters, digits and . _ @ -")
        if not _DIGEST.fullmatch(digest):
            raise _config_error("subject:hash, with the hash that `streamer key new` printed")
        return cls(subject, digest)

    def __str__(self) -> str:
        return f"{self.subject}:{self.digest}"


class KeyRing:
    """The keys of a server."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: str) -> Identity | None:
        """Return the identity of a key, or None. Every key is compared in constant time, so timing reveals nothing."""
        digest = hash_key(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = Identity(key.subject)
        return found


def _config_error(expected: str) -> ConfigError:
    return ConfigError(f"access.keys: expected {expected}", field="access.keys")


def new_key(subject: str) -> tuple[str, Key]:
    """Create a key of 256 random bits; return the secret for the client and the stored key. Raises ConfigError."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    return secret, Key.parse(f"{subject}:{hash_key(secret)}")


def hash_key(secret: str) -> str:
    """Return the stored hash of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
