"""MP3 (MPEG audio layer III): a frame at a time, without the silence that encoders put around the recording."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from streamer.media.id3 import tag_bytes
from streamer.media.packets import MAX_GARBAGE_BYTES, AudioCodec, DamagedMedia, Packet, Track

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {0: (11_025, 12_000, 8_000), 2: (22_050, 24_000, 16_000), 3: (44_100, 48_000, 32_000)}
"""By the version's two bits."""
_MPEG_1 = 3
_LAYER_3 = 1
_MONO = 3
_DECODER_DELAY = 529
"""Samples by which every decoder of layer III is late."""
_TAGS_BEHIND = (b"TAG", b"APETAGEX")
_LONGEST_TAG = len(b"APETAGEX")


class _Frame(NamedTuple):
    size: int
    sample_rate: int
    channels: int
    version: int

    @property
    def samples(self) -> int:
        return 1_152 if self.version == _MPEG_1 else 576

    def goes_on_as(self, other: _Frame | None) -> bool:
        return other is not None and (other.sample_rate, other.version) == (self.sample_rate, self.version)


class Mp3Demuxer:
    """A Demuxer of MP3. A new format is believed only if another frame follows its first."""

    name: ClassVar[str] = "MP3"

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = self._passed = 0
        self._frame: _Frame | None = None
        """The last one of its format."""
        self._has_ended = False

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def push(self, data: bytes) -> list[Track | Packet]:
        return self._push(data, is_last=False)

    def finish(self) -> list[Track | Packet]:
        out = self._push(b"", is_last=True)
        if self._frame is None:
            raise DamagedMedia("MP3: it ends before any frame")
        return out

    def _push(self, data: bytes, *, is_last: bool) -> list[Track | Packet]:
        out: list[Track | Packet] = []
        if self._has_ended:
            return out
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer, at = self._data, 0
        buffer += data
        while len(buffer) - at >= (4 if is_last else 10):
            if tag := tag_bytes(buffer, at):
                here = min(tag, len(buffer) - at)
                self._skip = tag - here
                at += here
                continue
            if buffer.startswith(_TAGS_BEHIND, at):
                self._has_ended, at = True, len(buffer)
                break
            frame = _frame(buffer, at)
            if frame is None:
                at = self._search(at)
                continue
            if len(buffer) - at < frame.size:
                break
            if self._frame is None or not frame.goes_on_as(self._frame):
                if len(buffer) - at < frame.size + _LONGEST_TAG and not is_last:
                    break
                if not self._is_believable(frame, at):
                    at = self._search(at)
                    continue
                if self._begin(frame, at, out):
                    at += frame.size
                    continue
            out.append(Packet(bytes(buffer[at : at + frame.size]), frame.samples))
            at += frame.size
            self._passed = 0
        del buffer[:at]
        return out

    def _is_believable(self, frame: _Frame, at: int) -> bool:
        """Whether another frame of its kind follows it, or the end."""
        buffer, end = self._data, at + frame.size
        if len(buffer) - end < 4 or buffer.startswith(_TAGS_BEHIND, end):
            return True
        return frame.goes_on_as(_frame(buffer, end))

    def _begin(self, frame: _Frame, at: int, out: list[Track | Packet]) -> bool:
        """Begin a format; return whether this frame holds no audio, but the length of the recording."""
        is_first, self._frame = self._frame is None, frame
        info = _info(self._data[at : at + frame.size], frame) if is_first else None
        skip, length = info or (0, None)
        out.append(Track(AudioCodec.MP3, frame.sample_rate, frame.channels, skip=skip, length=length))
        return info is not None

    def _search(self, at: int) -> int:
        buffer = self._data
        found = buffer.find(b"\xff", at + 1)
        if found < 0:
            found = len(buffer)
        for word in (*_TAGS_BEHIND, b"ID3"):
            if (tag := buffer.find(word, at + 1, found + len(word))) >= 0:
                found = min(found, tag)
        if found == len(buffer):  # the rest may be the beginning of a tag's name
            found = max(at + 1, len(buffer) - _LONGEST_TAG + 1)
        self._passed += found - at
        if self._passed > MAX_GARBAGE_BYTES:
            raise DamagedMedia(f"MP3: no frame in {MAX_GARBAGE_BYTES} bytes")
        return found


def mp3_frame_bytes(data: bytes | bytearray, at: int = 0) -> int:
    """Bytes of the frame whose header stands there; 0 if none does."""
    frame = _frame(data, at) if len(data) - at >= 4 else None
    return frame.size if frame else 0


def _frame(data: bytes | bytearray, at: int) -> _Frame | None:
    if data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    bit_rate, rate_index = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version not in _RATES or layer != _LAYER_3 or bit_rate in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[version][rate_index]
    kbits = (_KBITS_1 if version == _MPEG_1 else _KBITS_2)[bit_rate]
    size = (144_000 if version == _MPEG_1 else 72_000) * kbits // rate + (data[at + 2] >> 1 & 1)
    return _Frame(size, rate, 1 if data[at + 3] >> 6 == _MONO else 2, version)


def _info(data: bytearray, frame: _Frame) -> tuple[int, int | None] | None:
    """Return samples to skip and the recording's length from a Xing, LAME or VBRI frame; None for other frames."""
    if data[36:40] == b"VBRI":
        return 0, None
    side = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[frame.version == _MPEG_1, frame.channels]
    at = 4 + side
    if not data.startswith((b"Xing", b"Info"), at):
        return None
    flags = int.from_bytes(data[at + 4 : at + 8], "big")
    at += 8
    frames = int.from_bytes(data[at : at + 4], "big") if flags & 1 else 0
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    if not data.startswith((b"LAME", b"Lavf", b"Lavc"), at) or len(data) < at + 24:
        return 0, None
    packed = int.from_bytes(data[at + 21 : at + 24], "big")
    delay, padding = packed >> 12, packed & 0xFFF
    length = frames * frame.samples - delay - padding
    return delay + _DECODER_DELAY, length if frames and length > 0 else None
