"""Where the frames of a WebSocket begin and end: enough of RFC 6455 to tell whole messages of audio from the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Unmask = Callable[[bytes, bytearray], None]
"""Undoes the masking of a payload in place (RFC 6455, 5.3), given the mask."""

_BINARY = 0x82
"""First byte of a binary message that is one frame."""
_FIN, _RESERVED, _CONTROL = 0x80, 0x70, 0x08
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""In place of a length: it follows, in so many bytes."""


@dataclass(frozen=True, slots=True)
class Most:
    """Bounds, in bytes of payload."""

    frame: int
    """The longest frame that is followed or read."""
    joined: int = 0
    """Messages that are read together."""


def audio(data: bytes | bytearray, at: int, count: int, most: Most, unmask: Unmask) -> tuple[list[bytearray], int]:
    """The binary messages, each whole and in one frame of at most 65 535 bytes, from `data[at]` on.

    At most `count` of them; two or more only as long as they are to be joined. Returns them and where they end.
    """
    messages: list[bytearray] = []
    size, room = len(data), most.frame
    while size - at >= 6 and data[at] == _BINARY and len(messages) < count:
        length, begin = data[at + 1] - _MASKED, at + 6
        if length == _TWO_BYTES:
            length, begin = data[at + 2] << 8 | data[at + 3], at + 8
        elif length == _EIGHT_BYTES or length < 0:
            break
        end = begin + length
        if end > size or length > room:
            break
        message = bytearray(data[begin:end])
        unmask(bytes(data[begin - 4 : begin]), message)
        messages.append(message)
        room = (room if len(messages) > 1 else most.joined) - length
        at = end
    return messages, at


class Boundaries:
    """Follows the frames of one client that are not looked into."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the longest frame that is followed."""
        self._limit = limit
        self.fragmented = False
        """Part of a message has passed, and its end has not."""
        self.lost = False
        """Something is too long, or against the rules: whatever follows is for somebody else to judge."""

    def last(self, data: bytes | bytearray, at: int) -> int:
        """Where the last whole frame ends of those that begin at `data[at]`; the end of all where `lost`."""
        size = len(data)
        while size - at >= 2:
            first, length, begin = data[at], data[at + 1] - _MASKED, at + 6
            if length in (_TWO_BYTES, _EIGHT_BYTES):
                begin += 2 if length == _TWO_BYTES else 8
                if begin > size:
                    break
                length = int.from_bytes(data[at + 2 : begin - 4], "big")
            if not 0 <= length <= self._limit or first & _RESERVED:
                self.lost = True
                return size
            if begin + length > size:
                break
            if not first & _CONTROL:
                self.fragmented = not first & _FIN
            at = begin + length
        return at
