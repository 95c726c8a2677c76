"""The material, and audio made of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from streamer.audio.format import AudioFormat
from streamer.media.decoder import decode_all
from streamer.media.formats import Container, MediaFormat
from streamer.media.ogg import checksum

FOLDER = Path(__file__).parent / "material"
AUTO = MediaFormat(Container.AUTO)


class Expected(NamedTuple):
    """What a file holds, decoded at 48 kHz if its codec has a choice."""

    rate: int
    channels: int
    frames: int


FILES = {
    "aac.aac": Expected(48_000, 1, 342_016),
    "aac_faststart.m4a": Expected(48_000, 1, 340_800),
    "aac_frag.mp4": Expected(48_000, 1, 342_016),
    "aac_stereo.aac": Expected(48_000, 2, 289_792),
    "cbr_noid3.mp3": Expected(16_000, 1, 115_200),
    "cbr_stereo.mp3": Expected(48_000, 2, 288_000),
    "flac.oga": Expected(16_000, 1, 113_600),
    "live.flac": Expected(16_000, 1, 113_600),
    "mediarecorder.webm": Expected(48_000, 1, 334_080),
    "mediarecorder_mp4.mp4": Expected(48_000, 1, 330_240),
    "mulaw.wav": Expected(8_000, 1, 56_800),
    "nb.amr": Expected(8_000, 1, 56_960),
    "opus.ogg": Expected(48_000, 1, 340_800),
    "opus.webm": Expected(48_000, 1, 340_800),
    "opus60.ogg": Expected(48_000, 1, 120_000),
    "opus_51.ogg": Expected(48_000, 6, 72_000),
    "opus_chained.ogg": Expected(48_000, 1, 628_800),
    "opus_frag.mp4": Expected(48_000, 1, 341_448),
    "opus_live.webm": Expected(48_000, 1, 340_800),
    "opus_live_stereo.webm": Expected(48_000, 2, 288_000),
    "opus_smallpages.ogg": Expected(48_000, 1, 96_000),
    "opus_stereo.ogg": Expected(48_000, 2, 288_000),
    "stereo24.flac": Expected(48_000, 2, 96_000),
    "vbr_id3.mp3": Expected(16_000, 1, 113_600),
    "video_aac.mp4": Expected(48_000, 1, 144_000),
    "video_opus.webm": Expected(48_000, 1, 144_000),
    "wb.amr": Expected(16_000, 1, 113_600),
}
"""Lengths are those of the source (113,600 samples at 16 kHz, 340,800 at 48 kHz), unless the file cannot say them."""


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def decoded(pieces: Iterable[bytes], declared: MediaFormat = AUTO, rate: int = 48_000) -> tuple[AudioFormat, bytes]:
    """All of it, decoded."""
    form, data = decode_all(pieces, declared, rate)
    assert form is not None
    return form, data


def ogg_page(body: bytes, lacing: list[int], *, flags: int = 0, granule: int = 0, number: int = 0) -> bytes:
    """A page with the right checksum."""
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qIIIB", granule, 1, number, 0, len(lacing)) + bytes(lacing)
    page = head + body
    return page[:22] + struct.pack("<I", checksum(page)) + page[26:]


def ogg_opus(packet: bytes, pages: int, channels: int = 1) -> bytes:
    """A recording of one packet over and over, 255 on a page."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, 0, 48_000, 0, 0)
    out = ogg_page(head, [len(head)], flags=2) + ogg_page(b"OpusTags" + bytes(8), [16], number=1)
    for page in range(pages):
        out += ogg_page(packet * 255, [len(packet)] * 255, number=2 + page)
    return out


def flac_of_silence(frames: int, channels: int = 8, rate: int = 16_000) -> bytes:
    """Frames of 65,535 samples that are all the same: 33 bytes each, with eight channels."""
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36
    out = b"fLaC\x80\0\0\x22" + struct.pack(">HH", 65_535, 65_535) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    for number in range(frames):
        head = b"\xff\xf8" + bytes([0x70, (channels - 1) << 4 | 8]) + chr(number).encode() + struct.pack(">H", 65_534)
        frame = head + bytes([_crc(head, 8, 0x07)]) + bytes(3) * channels
        out += frame + struct.pack(">H", _crc(frame, 16, 0x8005))
    return out


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    crc, top, mask = 0, 1 << bits - 1, (1 << bits) - 1
    for byte in data:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
    return crc
