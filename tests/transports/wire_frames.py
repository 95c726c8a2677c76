"""A client's frames as bytes (RFC 6455, 5.2 and 5.3)."""

from __future__ import annotations

from tests.faults.raw import header

CONTINUATION, TEXT, BINARY, PING = 0, 1, 2, 9


def masked(opcode: int, payload: bytes, mask: bytes, *, fin: bool = True) -> bytes:
    """One frame."""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return header(opcode, len(payload), fin=fin)[:-4] + mask + hidden.to_bytes(len(payload), "big")
