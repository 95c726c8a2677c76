"""Frames of a WebSocket client (RFC 6455, 5.2): reads whole binary messages, and finds the ends of all other frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Unmask = Callable[[bytes | bytearray, bytes], bytes]
"""Returns a payload without its masking (RFC 6455, 5.3), given the payload and the mask of four bytes."""

BINARY_MESSAGE = 0x82
"""First byte of a binary message in one frame."""
CLOSE = 0x8
"""Opcode of a close frame."""
PROTOCOL_ERROR = 1002
MESSAGE_TOO_BIG = 1009
MAX_HEADER_BYTES = 14

CONTROL = 0x8
"""Set in the opcode of a control frame."""

_FIN, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_OPCODES = frozenset({0x0, 0x1, 0x2, CLOSE, 0x9, 0xA})
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127
"""Values of the length field: the length follows in two or eight bytes."""
_MAX_CONTROL_BYTES = 125


class FrameError(Exception):
    """A frame header that violates the protocol or a limit.

    `code`: the corresponding WebSocket close code.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class FrameLimits:
    """Bounds, in bytes of payload."""

    max_frame_bytes: int
    """Longest accepted frame."""
    max_coalesced_bytes: int = 0
    """Total length up to which binary messages may be joined."""


def read_binary_messages(
    data: bytes | bytearray, at: int, count: int, limits: FrameLimits, unmask: Unmask
) -> tuple[list[bytes], int]:
    """Read the binary messages from `data[at]` on, each whole and in one frame of at most 65 535 bytes.

    At most `count` of them; two or more only while their sum is within `limits.joined`. Returns the messages and the
    position after the last one.
    """
    messages: list[bytes] = []
    size, remaining = len(data), limits.max_frame_bytes
    while size - at >= 6 and data[at] == BINARY_MESSAGE and len(messages) < count:
        length, begin = data[at + 1] - _MASKED, at + 6
        if length == _TWO_BYTES:
            length, begin = data[at + 2] << 8 | data[at + 3], at + 8
        elif length == _EIGHT_BYTES or length < 0:
            break
        end = begin + length
        if end > size or length > remaining:
            break
        messages.append(unmask(data[begin:end], bytes(data[begin - 4 : begin])))
        remaining = (remaining if len(messages) > 1 else limits.max_coalesced_bytes) - length
        at = end
    return messages, at


def end_of_frame(data: bytes | bytearray, at: int, limit: int) -> int:
    """Return the position after the frame that begins at `data[at]`; 0 if it is incomplete.

    Raises FrameError as soon as the header is invalid, without waiting for the payload: reserved bits or opcodes, no
    mask, a fragmented control frame or one longer than 125 bytes, more than `limit` bytes.
    """
    if len(data) - at < 2:
        return 0
    first, length, begin = data[at], data[at + 1] - _MASKED, at + 6
    _check_first_bytes(first, length)
    if length >= _TWO_BYTES:
        begin += 2 if length == _TWO_BYTES else 8
        if begin - 4 > len(data):
            return 0
        length = int.from_bytes(data[at + 2 : begin - 4], "big")
    if length > limit:
        raise FrameError(MESSAGE_TOO_BIG, f"expected a message of at most {limit} bytes, got a frame of {length}")
    end = begin + length
    return end if end <= len(data) else 0


def is_close(first: int) -> bool:
    """Return whether a frame that begins with this byte is a close frame."""
    return first & _OPCODE == CLOSE


def is_fragmented_after(first: int, fragmented: bool) -> bool:
    """Return whether a message is incomplete after a frame that begins with this byte. `fragmented`: before it."""
    return fragmented if first & CONTROL else not first & _FIN


def _check_first_bytes(first: int, length: int) -> None:
    if first & _RESERVED:
        raise FrameError(PROTOCOL_ERROR, "expected reserved bits of 0: no extension was agreed")
    if first & _OPCODE not in _OPCODES:
        raise FrameError(PROTOCOL_ERROR, f"expected an opcode of RFC 6455, got {first & _OPCODE:#x}")
    if length < 0:
        raise FrameError(PROTOCOL_ERROR, "expected a masked frame from a client")
    if first & CONTROL and (length > _MAX_CONTROL_BYTES or not first & _FIN):
        raise FrameError(PROTOCOL_ERROR, "expected a control frame in one piece of at most 125 bytes")
