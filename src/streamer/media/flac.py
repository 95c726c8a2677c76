"""FLAC as a file or a stream (RFC 9639): a frame ends where the next one begins."""

from __future__ import annotations

from typing import ClassVar

from streamer.media.flac_header import (
    HEADER_BYTES,
    MAX_FRAME_HEADER_BYTES,
    FlacInfo,
    FrameHeader,
    flac_track,
    read_frame_header,
    read_info,
)
from streamer.media.packets import DamagedMedia, Packet, Track

_MARKER = b"fLaC"
_FORBIDDEN_BLOCK = 127


class FlacDemuxer:
    """A Demuxer of FLAC. Holds one frame back: its end is the header of the next one, with the number that is due."""

    name: ClassVar[str] = "FLAC"

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = 0
        self._has_marker = self._has_frames = False
        self._info: FlacInfo | None = None
        self._frame: FrameHeader | None = None
        """Of the frame that the data begin with."""
        self._searched = 0
        """Bytes of the data in which the next frame does not begin."""

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def push(self, data: bytes) -> list[Track | Packet]:
        return self._push(data, is_last=False)

    def finish(self) -> list[Track | Packet]:
        if self._info is None:
            raise DamagedMedia("FLAC: it ends before STREAMINFO")
        return self._push(b"", is_last=True)

    def _push(self, data: bytes, *, is_last: bool) -> list[Track | Packet]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._data += data
        out: list[Track | Packet] = []
        if not self._has_frames:
            self._metadata(out)
        if self._has_frames and not self._skip:
            self._frames(out, is_last=is_last)
        return out

    def _metadata(self, out: list[Track | Packet]) -> None:
        buffer, at = self._data, 0
        if not self._has_marker:
            if len(buffer) < len(_MARKER):
                return
            if not buffer.startswith(_MARKER):
                raise DamagedMedia("FLAC: it does not begin with fLaC")
            at, self._has_marker = len(_MARKER), True
        while not self._has_frames and not self._skip and len(buffer) - at >= 4:
            is_last, kind = buffer[at] >> 7, buffer[at] & 127
            size = 4 + int.from_bytes(buffer[at + 1 : at + 4], "big")
            if kind == _FORBIDDEN_BLOCK:
                raise DamagedMedia("FLAC: a metadata block of type 127")
            if self._info is None:
                if kind != 0 or size != 4 + HEADER_BYTES:
                    raise DamagedMedia("FLAC: expected STREAMINFO first")
                if len(buffer) - at < size:
                    break
                header = bytes(buffer[at + 4 : at + size])
                self._info = read_info(header)
                out.append(flac_track(header))
            here = min(size, len(buffer) - at)
            self._skip = size - here
            at += here
            self._has_frames = bool(is_last)
        del buffer[:at]

    def _frames(self, out: list[Track | Packet], *, is_last: bool) -> None:
        buffer, info = self._data, self._info
        assert info is not None
        at = 0
        while True:
            if self._frame is None:
                if len(buffer) - at < MAX_FRAME_HEADER_BYTES and not is_last:
                    break
                header = read_frame_header(buffer, at)
                if header is None or header.channels != info.channels:
                    if is_last and len(buffer) - at < MAX_FRAME_HEADER_BYTES:
                        at = len(buffer)  # the beginning of a frame, or a tag behind them
                        break
                    raise DamagedMedia("FLAC: no frame where one is due")
                self._frame, self._searched = header, header.size
            end = self._find_next(at, is_last=is_last)
            size = (len(buffer) if end is None else end) - at
            if size > info.max_frame_bytes:
                raise DamagedMedia(f"FLAC: expected frames of at most {info.max_frame_bytes} bytes, got {size}")
            if end is None and not is_last:
                break
            out.append(Packet(bytes(buffer[at : at + size]), self._frame.block))
            at, self._frame = at + size, None
            if end is None:
                break
        del buffer[:at]

    def _find_next(self, at: int, *, is_last: bool) -> int | None:
        """Return the start of the frame after the one at `at`, or None while it is not here."""
        buffer, frame, info = self._data, self._frame, self._info
        assert frame is not None
        assert info is not None
        found = buffer.find(b"\xff", at + self._searched)
        while found >= 0:
            if len(buffer) - found < MAX_FRAME_HEADER_BYTES and not is_last:
                break
            following = read_frame_header(buffer, found)
            if (
                following is not None
                and following.is_variable == frame.is_variable
                and following.number == frame.next_number
                and following.channels == info.channels
            ):
                return found
            found = buffer.find(b"\xff", found + 1)
        self._searched = (found if found >= 0 else len(buffer)) - at
        return None
