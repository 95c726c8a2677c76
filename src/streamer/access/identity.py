"""Who somebody is, once that is known, and what they were granted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key or a token allows beyond the server's own limits; None leaves it to those."""

    max_sessions: int | None = None
    """Sessions of this subject at a time."""
    max_stream_s: int | None = None
    """Seconds of audio in one stream."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified subject. `expires_at` in seconds since 1970; None for a key, which does not expire."""

    subject: str
    expires_at: float | None = None
    grant: Grant = Grant()
