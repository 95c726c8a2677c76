"""ID3v2 tags, which stand in front of MP3 and AAC."""

from __future__ import annotations

HEADER_BYTES = 10
_HAS_FOOTER = 0x10


def tag_bytes(data: bytes | bytearray, at: int = 0) -> int:
    """Bytes of the tag that begins there, itself included; 0 if none does, or if its header is not there as a whole."""
    if len(data) - at < HEADER_BYTES or not data.startswith(b"ID3", at):
        return 0
    size = 0
    for byte in data[at + 6 : at + HEADER_BYTES]:
        size = size << 7 | byte & 0x7F
    return HEADER_BYTES + size + (HEADER_BYTES if data[at + 5] & _HAS_FOOTER else 0)
