"""Masking of WebSocket payloads (RFC 6455, 5.3) without a C extension."""

from __future__ import annotations


def unmask(data: bytes | bytearray, mask: bytes) -> bytes:
    """Return `data` with each byte XORed with its byte of the repeated mask of four bytes."""
    size = len(data)
    repeated = mask * (size // 4) + mask[: size % 4]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")
