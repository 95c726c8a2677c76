"""Which container it is, by its first bytes."""

from __future__ import annotations

from streamer.media.adts import is_adts
from streamer.media.formats import Container
from streamer.media.id3 import tag_bytes
from streamer.media.mp3 import mp3_frame_bytes
from streamer.media.packets import UnsupportedMedia

SNIFFED_BYTES = 12
"""Bytes that decide, but for MP3 and AAC, which are believed once a second header stands where the first says."""
_SHOWN_BYTES = 12
_MPEG_TS_SYNC = b"G"

_MAGIC = {
    b"OggS": Container.OGG,
    b"\x1a\x45\xdf\xa3": Container.WEBM,
    b"RIFF": Container.WAV,
    b"RF64": Container.WAV,
    b"fLaC": Container.FLAC,
    b"#!AM": Container.AMR,
}
_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof"})
_UNSERVED = {
    b"caff": "CAF",
    b"FORM": "AIFF",
    b".snd": "Sun audio",
    b"\x30\x26\xb2\x75": "ASF (WMA)",
    b"FLV\x01": "FLV",
    b"\x00\x00\x00\x00": "all zeros; PCM has to be declared",
}


def sniff(data: bytes | bytearray, *, is_last: bool = False) -> Container | None:
    """Return the container of audio by its first bytes, after any ID3 tag; None if more bytes are needed.

    Raises UnsupportedMedia for anything that is not served.
    """
    if len(data) < SNIFFED_BYTES and not is_last:
        return None
    if container := _MAGIC.get(bytes(data[:4])):
        return container
    if bytes(data[4:8]) in _BOXES:
        return Container.MP4
    if data[:1] == b"\xff" and len(data) >= 2:
        return _sniff_frames(data, is_last=is_last)
    raise unserved(data)


def _sniff_frames(data: bytes | bytearray, *, is_last: bool) -> Container | None:
    """AAC or MP3, whose frames begin alike."""
    if size := mp3_frame_bytes(data):
        if len(data) >= size + 4:
            if mp3_frame_bytes(data, size) or data.startswith((b"TAG", b"ID3"), size):
                return Container.MP3
        elif not is_last:
            return None
        else:
            return Container.MP3
    if is_adts(data):
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        if len(data) < size + 7:
            return Container.AAC if is_last else None
        if is_adts(data, size):
            return Container.AAC
    raise unserved(data)


def unserved(data: bytes | bytearray) -> UnsupportedMedia:
    """Return the error for audio with these first bytes."""
    head = bytes(data[:_SHOWN_BYTES])
    name = next((name for magic, name in _UNSERVED.items() if head.startswith(magic)), None)
    if name is None and head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        name = f"text: {head.decode('ascii')!r}"
    if name is None and head[:1] == _MPEG_TS_SYNC:
        name = "MPEG-TS?"
    text = head.hex(" ") + (f" ({name})" if name else "")
    expected = "Ogg, WebM, MP4, WAV, FLAC, MP3, AAC or AMR, or a declared encoding"
    return UnsupportedMedia(f"expected audio that begins as {expected}, got {text or 'nothing'}")


def leading_tag(data: bytes | bytearray) -> int | None:
    """Bytes of an ID3 tag in front; None if more bytes are needed to know."""
    if data.startswith(b"ID3"):
        return tag_bytes(data) or None
    return 0
