"""FLAC (RFC 9639): STREAMINFO, and the header of a frame."""

from __future__ import annotations

from typing import NamedTuple

from streamer.audio.format import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from streamer.media.packets import AudioCodec, DamagedMedia, Track, UnsupportedMedia

HEADER_BYTES = 34
"""Of STREAMINFO."""
MAX_FRAME_HEADER_BYTES = 16
MAX_FRAME_BYTES = 1024 * 1024


class FlacInfo(NamedTuple):
    """The fields of STREAMINFO."""

    max_block: int
    """Samples per channel of a frame, at most."""
    sample_rate: int
    channels: int
    bits: int
    length: int
    """Samples per channel; 0 for unknown."""

    @property
    def max_frame_bytes(self) -> int:
        """No frame that was encoded with sense is longer than its samples, uncompressed, twice."""
        raw = self.max_block * self.channels * (self.bits + 1) // 8
        return min(MAX_FRAME_BYTES, 64 + 2 * raw + 1_024)


class FrameHeader(NamedTuple):
    """The fields of a frame's header."""

    is_variable: bool
    number: int
    """Of the frame, or of its first sample if blocks vary in size."""
    block: int
    """Samples per channel."""
    channels: int
    size: int
    """Bytes of the header."""

    @property
    def next_number(self) -> int:
        return self.number + (self.block if self.is_variable else 1)


def read_info(data: bytes) -> FlacInfo:
    """Read STREAMINFO. Raises DamagedMedia or UnsupportedMedia."""
    if len(data) < HEADER_BYTES:
        raise DamagedMedia(f"FLAC: expected STREAMINFO of {HEADER_BYTES} bytes, got {len(data)}")
    packed = int.from_bytes(data[10:18], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE:
        raise UnsupportedMedia(f"FLAC: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {rate}")
    if bits < 4:
        raise DamagedMedia(f"FLAC: expected at least 4 bits a sample, got {bits}")
    return FlacInfo(int.from_bytes(data[2:4], "big"), rate, channels, bits, packed & (1 << 36) - 1)


def flac_track(data: bytes) -> Track:
    """Return the track of a STREAMINFO. Raises what `read_info` does."""
    info = read_info(data)
    return Track(AudioCodec.FLAC, info.sample_rate, info.channels, bytes(data[:HEADER_BYTES]))


def read_frame_header(data: bytes | bytearray, at: int = 0) -> FrameHeader | None:
    """Return the header of a frame at `at`. None if no frame begins there, or its header is incomplete."""
    if len(data) - at < 6 or data[at] != 0xFF or data[at + 1] & 0xFE != 0xF8:
        return None
    block_code, rate_code = data[at + 2] >> 4, data[at + 2] & 15
    assignment = data[at + 3] >> 4
    if block_code == 0 or rate_code == 15 or data[at + 3] & 1 or assignment > 10:
        return None
    coded = _coded_number(data, at + 4)
    if coded is None:
        return None
    number, end = coded
    extra = {6: 1, 7: 2}.get(block_code, 0)
    rate_extra = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if len(data) <= end + extra + rate_extra:
        return None
    block = int.from_bytes(data[end : end + extra], "big") + 1 if extra else _BLOCKS[block_code]
    end += extra + rate_extra
    if _crc8(data[at:end]) != data[end]:
        return None
    channels = assignment + 1 if assignment < 8 else 2
    return FrameHeader(bool(data[at + 1] & 1), number, block, channels, end + 1 - at)


def flac_samples(data: bytes) -> int:
    """Return the samples per channel of a frame, 0 if its header is wrong."""
    header = read_frame_header(data)
    return header.block if header else 0


def _coded_number(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Read a number of up to 36 bits, written as in UTF-8; return it and its end."""
    first = data[at]
    if first < 0x80:
        return first, at + 1
    ones = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= ones <= 7 or len(data) - at < ones:
        return None
    number = first & (1 << 7 - ones) - 1
    for byte in data[at + 1 : at + ones]:
        number = number << 6 | byte & 63
    return number, at + ones


def _crc8(data: bytes | bytearray) -> int:
    crc = 0
    for byte in data:
        crc = _CRC8[crc ^ byte]
    return crc


def _crc8_table() -> bytes:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x07) & 0xFF if value & 0x80 else value << 1  # noqa: PLW2901
        table.append(value)
    return bytes(table)


_CRC8 = _crc8_table()
_BLOCKS = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}
