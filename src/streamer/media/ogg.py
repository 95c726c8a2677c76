"""Ogg (RFC 3533): pages to packets of Opus (RFC 7845) or FLAC. Chained recordings follow each other."""

from __future__ import annotations

import struct
import zlib
from typing import ClassVar

from streamer.media.flac_header import HEADER_BYTES, flac_samples, flac_track
from streamer.media.opus_header import opus_track, packet_samples
from streamer.media.packets import MAX_PACKET_BYTES, AudioCodec, DamagedMedia, Packet, Track, UnsupportedMedia

_CAPTURE = b"OggS"
_HEADER_BYTES = 27
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_MAX_BAD_PAGES = 64
_MAX_SEARCHED_BYTES = 128 * 1024
_FLAC_MAGIC = b"\x7fFLAC"
_FLAC_INFO_AT = 17
_NAMES = {
    b"\x01vorbis": "Vorbis",
    b"Speex   ": "Speex",
    b"\x80theora": "Theora",
    b"OpusHead": "Opus",
    _FLAC_MAGIC: "FLAC",
}
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def checksum(page: bytes) -> int:
    """Return the CRC of a page whose own CRC field is zero.

    Ogg's polynomial is zlib's with the bits of every byte in the other order, so zlib computes it at memory speed.
    """
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(_REVERSED), "big")


class OggDemuxer:
    """A Demuxer of Ogg. Waits for a page to be whole, since its checksum is of the whole page.

    Of several streams side by side it takes the first that is audio. A stream that begins after pages with data is a
    new recording.
    """

    name: ClassVar[str] = "Ogg"

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = self._bad_pages = 0
        self._serial: int | None = None
        self._link: _Link | None = None
        self._has_data = False
        """Pages with data of this recording have come."""
        self._others: list[str] = []

    @property
    def nbytes(self) -> int:
        return len(self._data) + (self._link.nbytes if self._link else 0)

    def push(self, data: bytes) -> list[Track | Packet]:
        buffer, at, out = self._data, 0, list[Track | Packet]()
        buffer += data
        while len(buffer) - at >= _HEADER_BYTES:
            if not buffer.startswith(_CAPTURE, at):
                at = self._search(at + 1, at)
                continue
            table = buffer[at + 26]
            if len(buffer) - at < _HEADER_BYTES + table:
                break
            lacing = bytes(buffer[at + _HEADER_BYTES : at + _HEADER_BYTES + table])
            size = _HEADER_BYTES + table + sum(lacing)
            if len(buffer) - at < size:
                break
            page = bytes(buffer[at : at + size])
            if checksum(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
                self._bad_pages += 1
                if self._bad_pages > _MAX_BAD_PAGES:
                    raise DamagedMedia(f"Ogg: {_MAX_BAD_PAGES} pages with a wrong checksum")
                at = self._search(at + 1, at)
                continue
            at += size
            self._page(page, lacing, out)
        del buffer[:at]
        return out

    def finish(self) -> list[Track | Packet]:
        if self._link is None and self._others:
            raise self._unserved()
        return []

    def _search(self, start: int, at: int) -> int:
        """Return the place at which the next page may begin."""
        found = self._data.find(_CAPTURE, start)
        if found < 0:
            found = max(start, len(self._data) - len(_CAPTURE) + 1)
        self._searched += found - at
        if self._searched > _MAX_SEARCHED_BYTES:
            raise DamagedMedia(f"Ogg: no page in {_MAX_SEARCHED_BYTES} bytes")
        return found

    def _page(self, page: bytes, lacing: bytes, out: list[Track | Packet]) -> None:
        flags, granule, serial, number = page[5], *struct.unpack_from("<qII", page, 6)
        body = page[_HEADER_BYTES + len(lacing) :]
        if flags & _FIRST:
            if self._has_data:
                self._link, self._has_data = None, False
                self._others.clear()
            if self._link is None:
                self._choose(body, serial)
        else:
            self._has_data = True
            if self._link is None:
                raise self._unserved()
        if self._link is not None and serial == self._serial:
            self._link.page(flags, granule, number, lacing, body, out)

    def _choose(self, body: bytes, serial: int) -> None:
        """Take a stream that begins here if it is audio that is served."""
        if body.startswith(b"OpusHead"):
            self._link = _Link(AudioCodec.OPUS)
        elif body.startswith(_FLAC_MAGIC):
            self._link = _Link(AudioCodec.FLAC)
        elif len(self._others) < 8:
            self._others.append(next((name for magic, name in _NAMES.items() if body.startswith(magic)), "unknown"))
        self._serial = serial

    def _unserved(self) -> UnsupportedMedia:
        found = ", ".join(self._others) or "no stream that begins"
        return UnsupportedMedia(f"Ogg: expected Opus or FLAC, got {found}")


class _Link:
    """One recording of a chain: its pages to packets."""

    def __init__(self, codec: AudioCodec) -> None:
        self._codec = codec
        self._headers = 0
        self._expected: int | None = None
        self._part: list[bytes] | None = None
        """The beginning of a packet that goes on in the next page."""
        self.nbytes = 0
        """Of that."""
        self._total = 0
        self._offset: int | None = None
        """Granule position of the first sample."""
        self._flac = b""

    def page(
        self, flags: int, granule: int, number: int, lacing: bytes, body: bytes, out: list[Track | Packet]
    ) -> None:
        if self._expected is not None and number != self._expected:
            self._forget_part()
        self._expected = (number + 1) & 0xFFFFFFFF
        packets = self._packets(flags, lacing, body)
        if self._headers == 0 and packets:
            out.append(self._track(packets.pop(0)))
            self._headers = 1
        if self._codec is AudioCodec.FLAC:
            out += [Packet(data, flac_samples(data)) for data in packets if data[:1] == b"\xff"]
            return
        if self._headers == 1 and packets:  # the tags
            del packets[0]
            self._headers = 2
        audio = [(data, packet_samples(data)) for data in packets if data]
        self._total += sum(samples for _, samples in audio)
        if audio and granule >= 0 and self._offset is None:
            # A recording that was joined late begins above 0. One that is shorter than its page ends early.
            self._offset = max(0, granule - self._total)
        excess = 0
        if flags & _LAST and granule >= 0 and self._offset is not None:
            excess = max(0, self._total + self._offset - granule)
        out += _trimmed(audio, excess)

    def _track(self, header: bytes) -> Track:
        if self._codec is AudioCodec.OPUS:
            return opus_track(header)
        if len(header) < _FLAC_INFO_AT + HEADER_BYTES:
            raise DamagedMedia("Ogg: the header of FLAC is cut short")
        return flac_track(header[_FLAC_INFO_AT:])

    def _packets(self, flags: int, lacing: bytes, body: bytes) -> list[bytes]:
        """Return the packets that end in this page."""
        if not flags & _CONTINUED:
            self._forget_part()
        is_lost = bool(flags & _CONTINUED) and self._part is None
        packets, start, size = [], 0, 0
        for length in lacing:
            size += length
            if length == 255:
                continue
            piece = body[start : start + size]
            start, size = start + size, 0
            if not is_lost:
                packets.append(piece if self._part is None else b"".join((*self._part, piece)))
            is_lost = False
            self._forget_part()
        if lacing and lacing[-1] == 255 and not is_lost:
            self._part = [*(self._part or ()), body[start:]]
            self.nbytes += len(body) - start
            if self.nbytes > MAX_PACKET_BYTES:
                raise DamagedMedia(f"Ogg: expected packets of at most {MAX_PACKET_BYTES} bytes, got {self.nbytes}")
        return packets

    def _forget_part(self) -> None:
        self._part, self.nbytes = None, 0


def _trimmed(audio: list[tuple[bytes, int]], excess: int) -> list[Packet]:
    """Packets of a page, of which the last `excess` samples are padding."""
    packets = []
    for data, samples in reversed(audio):
        trim = min(excess, samples)
        excess -= trim
        packets.append(Packet(data, samples, trim))
    packets.reverse()
    return packets
