"""Limit of small messages with audio, for protocols that answer each message."""

from __future__ import annotations

from streamer.errors import ErrorCode
from streamer.session.messages import Malformed

SMALL_BYTES = 64
"""Bytes of a message up to which it is small: 8 ms of telephone audio, less than any client sends."""
MAX_SMALL_MESSAGES = 1_000
"""Small messages of a connection beyond one for each `SMALL_BYTES` of audio."""


class SmallMessages:
    """Count of one connection. An answer costs the server more than the client, unless it is to a piece of audio."""

    def __init__(self) -> None:
        self._left = MAX_SMALL_MESSAGES * SMALL_BYTES
        """Bytes that the next messages may lack."""

    def take(self, size: int) -> Malformed | None:
        """Count a message of `size` bytes; return the error of one too many."""
        self._left = min(self._left + size - SMALL_BYTES, MAX_SMALL_MESSAGES * SMALL_BYTES)
        if self._left >= 0:
            return None
        text = f"more than {MAX_SMALL_MESSAGES} messages of less than {SMALL_BYTES} bytes: send audio in larger ones"
        return Malformed(ErrorCode.RATE_LIMITED, text, fatal=True)
