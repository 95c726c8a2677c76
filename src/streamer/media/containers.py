"""The demuxer of a container: as declared, or as the first bytes say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO, ClassVar

from streamer.media.adts import AdtsDemuxer
from streamer.media.amr import AmrDemuxer
from streamer.media.flac import FlacDemuxer
from streamer.media.formats import Container, MediaFormat
from streamer.media.mp3 import Mp3Demuxer
from streamer.media.mp4 import Mp4Demuxer
from streamer.media.ogg import OggDemuxer
from streamer.media.opus_header import opus_track, packet_samples, plain_header
from streamer.media.packets import MAX_PACKET_BYTES, AudioCodec, DamagedMedia, Demuxer, Packet, Track, UnsupportedMedia
from streamer.media.sniffing import SNIFFED_BYTES, leading_tag, sniff
from streamer.media.wav import WavDemuxer
from streamer.media.webm import WebmDemuxer

LIVE_INDEX_BYTES = 256 * 1024
"""Of an MP4's `moov` if the file is not spooled."""
_DEMUXERS: Mapping[Container, Callable[[], Demuxer]] = {
    Container.OGG: OggDemuxer,
    Container.WEBM: WebmDemuxer,
    Container.WAV: WavDemuxer,
    Container.FLAC: FlacDemuxer,
    Container.MP3: Mp3Demuxer,
    Container.AAC: AdtsDemuxer,
    Container.AMR: AmrDemuxer,
}
_FRAMED = frozenset({Container.MP3, Container.AAC})
"""Containers that may begin with anything."""


class OpusPackets:
    """A Demuxer of raw packets: every push is one."""

    name: ClassVar[str] = "Opus"
    nbytes = 0

    def __init__(self, channels: int) -> None:
        self._track: Track | None = opus_track(plain_header(channels))

    def push(self, data: bytes) -> list[Track | Packet]:
        if len(data) > MAX_PACKET_BYTES:
            raise DamagedMedia(f"Opus: expected packets of at most {MAX_PACKET_BYTES} bytes, got {len(data)}")
        out: list[Track | Packet] = []
        if self._track is not None:
            _check_raw(data, "packets of Opus")
            out.append(self._track)
            self._track = None
        out.append(Packet(data, packet_samples(data)))
        return out

    def finish(self) -> list[Track | Packet]:
        return []


class G722Bytes:
    """A Demuxer of G.722, which has no frames: each byte is two samples."""

    name: ClassVar[str] = "G.722"
    nbytes = 0

    def __init__(self) -> None:
        self._has_begun = False

    def push(self, data: bytes) -> list[Track | Packet]:
        packet = Packet(data, 2 * len(data))
        if self._has_begun:
            return [packet]
        self._has_begun = True
        _check_raw(data, "G.722")
        return [Track(AudioCodec.G722, 16_000, 1), packet]

    def finish(self) -> list[Track | Packet]:
        return []


class AnyDemuxer:
    """A Demuxer of whatever comes: it looks at the first bytes, and leaves the rest to the demuxer of that.

    A container that is declared is believed only if the first bytes do not say that it is another one.
    """

    name: ClassVar[str] = "audio"

    def __init__(self, declared: Container, spool: BinaryIO | None, served: frozenset[Container]) -> None:
        self._declared = declared
        self._served = served
        self._spool = spool
        self._head = bytearray()
        self._skip = 0
        self._demuxer: Demuxer | None = None

    @property
    def nbytes(self) -> int:
        return self._demuxer.nbytes if self._demuxer is not None else len(self._head)

    def push(self, data: bytes) -> Iterable[Track | Packet]:
        if self._demuxer is not None:
            return self._demuxer.push(data)
        return self._begin(data, is_last=False)

    def finish(self) -> Iterable[Track | Packet]:
        if self._demuxer is None and self._head:
            yield from self._begin(b"", is_last=True)
        if self._demuxer is not None:
            yield from self._demuxer.finish()

    def _begin(self, data: bytes, *, is_last: bool) -> Iterable[Track | Packet]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        head = self._head
        head += data
        while tag := leading_tag(head):
            self._skip = max(0, tag - len(head))
            del head[:tag]
        if tag is None and not is_last:
            return []
        container = self._container(is_last=is_last)
        if container is None:
            return []
        self._demuxer = _demuxer(container, self._spool)
        first = bytes(head)
        head.clear()
        return self._demuxer.push(first)

    def _container(self, *, is_last: bool) -> Container | None:
        """Return what it is, or None while too few bytes are here to know. Raises UnsupportedMedia."""
        if not self._head:
            return None
        declared = self._declared
        try:
            found = sniff(self._head, is_last=is_last)
        except UnsupportedMedia:
            if declared not in _FRAMED:
                raise
            found = declared
        for container in (declared, found):
            if container not in (None, Container.AUTO, *self._served):
                expected = ", ".join(sorted(self._served)) or "PCM"
                raise UnsupportedMedia(f"format.encoding: expected {expected}, as this server allows, got {container}")
        if found is not None and declared not in (Container.AUTO, found):
            raise UnsupportedMedia(
                f"format.encoding: expected {declared} as declared, got {found} (it begins "
                f"{bytes(self._head[:SNIFFED_BYTES]).hex(' ')}); declare what is sent, or `auto`"
            )
        return found


def demuxer_for(
    declared: MediaFormat, spool: BinaryIO | None = None, served: frozenset[Container] = frozenset(Container)
) -> Demuxer:
    """Return the demuxer for a declared format.

    `spool`: a file for an MP4 whose index is at its end. `served`: containers that are accepted.
    """
    if declared.container is Container.OPUS and Container.OPUS in served:
        return OpusPackets(declared.channels or 1)
    if declared.container is Container.G722 and Container.G722 in served:
        return G722Bytes()
    return AnyDemuxer(declared.container, spool, served)


def _demuxer(container: Container, spool: BinaryIO | None) -> Demuxer:
    if container is Container.MP4:
        return Mp4Demuxer(spool) if spool is not None else Mp4Demuxer(max_index_bytes=LIVE_INDEX_BYTES)
    return _DEMUXERS[container]()


def _check_raw(data: bytes, expected: str) -> None:
    """Raise UnsupportedMedia for a container in place of raw audio, an easy mistake. `expected`: what was declared."""
    for magic, container in ((b"OggS", Container.OGG), (b"\x1a\x45\xdf\xa3", Container.WEBM), (b"RIFF", Container.WAV)):
        if data.startswith(magic):
            raise UnsupportedMedia(
                f"format.encoding: expected raw {expected} as declared, got {container}; declare "
                f"`{container}` or `auto`"
            )
