"""Static keys: random, shown once, kept as hashes.

The hash is one round of SHA-256. A slow, salted one (argon2, scrypt) protects secrets that people choose, because those
can be guessed; a key of 256 random bits cannot, so slowness would only give a stranger a way to burn the server's CPU.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.access.carriers import Identity
from streamer.errors import ConfigError

KEY_PREFIX = "sk_"
"""Begins every key, so that scanners for leaked secrets and the verifier know one when they see it."""
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: whose it is, and the SHA-256 of it in hexadecimal."""

    subject: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Key:
        """`subject:digest`, as `streamer key new` prints it. Raises ConfigError."""
        subject, _, digest = text.strip().partition(":")
        # What came is not shown: somebody may have put the key itself there.
        if not _SUBJECT.fullmatch(subject):
            raise _wrong("subject:hash, with a subject of at most 64 letters, digits and . _ @ -")
        if not _DIGEST.fullmatch(digest):
            raise _wrong("subject:hash, with the hash that `streamer key new` printed")
        return cls(subject, digest)

    def __str__(self) -> str:
        return f"{self.subject}:{self.digest}"


class KeyRing:
    """The keys a server knows."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, secret: str) -> Identity | None:
        """Whose key this is. Every key is compared, in constant time, so that the time taken tells nothing."""
        digest = hash_key(secret)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = Identity(key.subject)
        return found


def _wrong(expected: str) -> ConfigError:
    return ConfigError(f"access.keys: expected {expected}", field="access.keys")


def new_key(subject: str) -> tuple[str, Key]:
    """A fresh key of 256 random bits: the secret, to be handed out, and what is kept of it. Raises ConfigError."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    return secret, Key.parse(f"{subject}:{hash_key(secret)}")


def hash_key(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
