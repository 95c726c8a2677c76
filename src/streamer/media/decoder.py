"""Compressed audio to PCM: what comes out depends on the bytes, not on how they are cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from streamer.audio.format import MAX_CHANNELS, AudioFormat
from streamer.media.containers import OpusPackets, demuxer_for
from streamer.media.conversion import Conversion, mono
from streamer.media.decoders import STATE_BYTES, PacketDecoder, decoder_for
from streamer.media.formats import Container, MediaFormat
from streamer.media.packets import DamagedMedia, Packet, Track, UnsupportedMedia

MAX_BAD_PACKETS = 50
"""Packets in a row that cannot be decoded."""
MAX_FORMATS = 64
"""Recordings, or changes of format, in one stream."""
FREE_SECONDS = 60.0
"""Audio of one channel that the fewest bytes may make."""
MIN_BITS_PER_SECOND = 250
"""Of one channel, past FREE_SECONDS. Silence takes more in every encoder that is in use (Opus with DTX 270 bit/s, FLAC
at 16 kHz 440). Less is a bomb: 4 kB of FLAC can be twenty minutes."""
_UNKNOWN_RATE = 48_000
STEP_BYTES = 64 * 1024
"""Taken apart in one `take`, however little audio they make."""
SLICE_BYTES = 4_096
"""Taken apart at a time, so that packets do not pile up that nobody has asked for."""


class MediaDecoder:
    """Demuxes and decodes one stream.

    `push` keeps bytes. `take` decodes, a bounded time at once. `format` is that of the first recording; what follows it
    in another format is converted. A packet that cannot be decoded becomes silence of its length (of Opus, what
    libopus thinks was in it), so that positions stay true.
    """

    def __init__(
        self,
        declared: MediaFormat,
        rate: int = 16_000,
        *,
        max_channels: int = MAX_CHANNELS,
        served: frozenset[Container] = frozenset(Container),
        spool: BinaryIO | None = None,
        libopus: str = "",
    ) -> None:
        """Create a decoder at the start of its stream.

        `rate`: preferred sample rate in Hz, for codecs with a choice. `served`: containers that are accepted. `spool`:
        see Mp4Demuxer. `libopus`: see load_libopus.
        """
        self._demuxer = demuxer_for(declared, spool, served)
        self._rate = rate
        self._downmix = declared.downmix
        self._libopus = libopus
        self._max_channels = max_channels
        self._slice_bytes = 2**62 if isinstance(self._demuxer, OpusPackets) else SLICE_BYTES
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = self._received_bytes = self._step_bytes = 0
        self._work: Iterator[Track | Packet] = iter(())
        self._is_ending = False
        self._track: _TrackDecoder | None = None
        self._state_bytes = self._formats = self._bad_in_a_row = 0
        self._source: AudioFormat | None = None
        """Of what the track's decoder gave last."""
        self._conversion: Conversion | None = None
        self.format: AudioFormat | None = None
        """Of what `take` gives; None until that is known."""
        self.decoded_s = 0.0
        """Seconds of audio decoded so far, those of all channels added up."""
        self.bad_packets = 0
        """Packets that could not be decoded."""
        self.is_pending = False
        """Whether `take` may have more."""
        self.is_finished = False
        """Whether everything up to the end has been taken."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes: what waits, and the decoder."""
        return self._waiting_bytes + self._demuxer.nbytes + self._state_bytes

    def push(self, data: bytes) -> None:
        """Keep bytes until they are taken."""
        if data:
            self._chunks.append(data)
            self._waiting_bytes += len(data)
            self._received_bytes += len(data)
            self.is_pending = True

    def finish(self) -> None:
        """No more bytes come: `take` gives what waited for more, then nothing."""
        self._is_ending = self.is_pending = True

    def take(self, seconds: float = 1.0) -> bytes:
        """Decode `seconds` of audio, or less if the bytes are used up. One packet may be longer than that.

        Returns interleaved samples in `format`. Raises DamagedMedia or UnsupportedMedia, once for all.
        """
        parts: list[bytes] = []
        made, self._step_bytes = 0.0, 0
        while made < seconds:
            item = self._next()
            if item is None:
                break
            if isinstance(item, Track):
                self._begin(item, parts)
                continue
            data, seconds_of_it = self._decode(item)
            made += seconds_of_it
            if data:
                self._convert(data, parts)
        if self.format is not None:
            self._check_size(made)
        return b"".join(parts)

    def _next(self) -> Track | Packet | None:
        while (item := next(self._work, None)) is None:
            if self._chunks:
                if self._step_bytes >= STEP_BYTES:
                    return None
                self._work = iter(self._demuxer.push(self._slice()))
            elif self._is_ending:
                self._is_ending = False
                self._work = self._last()
            else:
                self.is_pending = False
                return None
        return item

    def _slice(self) -> bytes:
        chunk = self._chunks.popleft()
        if len(chunk) > self._slice_bytes:
            self._chunks.appendleft(chunk[self._slice_bytes :])
            chunk = chunk[: self._slice_bytes]
        self._waiting_bytes -= len(chunk)
        self._step_bytes += len(chunk)
        return chunk

    def _last(self) -> Iterator[Track | Packet]:
        yield from self._demuxer.finish()
        yield _END

    def _begin(self, track: Track, parts: list[bytes]) -> None:
        """Begin another track."""
        self._end_track(parts)
        if track is _END:
            self.is_finished = True
            if self.format is None and self.bad_packets:
                raise DamagedMedia(f"none of {self.bad_packets} packets could be decoded")
            return
        self._formats += 1
        if self._formats > MAX_FORMATS:
            raise DamagedMedia(f"expected at most {MAX_FORMATS} recordings in one stream, got more")
        self._track = _TrackDecoder(track, decoder_for(track, self._rate, downmix=self._downmix, libopus=self._libopus))
        self._state_bytes = STATE_BYTES[track.codec]

    def _end_track(self, parts: list[bytes]) -> None:
        if self._track is not None and (rest := self._track.flush()):
            self._convert(rest, parts)
        self._track, self._state_bytes = None, 0
        if self._conversion is not None:
            parts.append(self._conversion.flush())
        self._conversion = self._source = None

    def _decode(self, packet: Packet) -> tuple[bytes, float]:
        """Return the samples that are kept of a packet, and the seconds that were decoded for it."""
        track = self._track
        assert track is not None
        data, seconds = track.decode(packet)
        if track.is_bad:
            self.bad_packets += 1
            self._bad_in_a_row += 1
            if self._bad_in_a_row >= MAX_BAD_PACKETS:
                raise DamagedMedia(f"{MAX_BAD_PACKETS} packets in a row that cannot be decoded ({track.codec})")
        else:
            self._bad_in_a_row = 0
        return data, seconds

    def _convert(self, data: bytes, parts: list[bytes]) -> None:
        """Append samples of the track in the stream's format."""
        assert self._track is not None
        source = self._track.format
        assert source is not None
        if source != self._source:
            self._change(source, parts)
        parts.append(data if self._conversion is None else self._conversion.push(data))

    def _change(self, source: AudioFormat, parts: list[bytes]) -> None:
        if self._source is not None:  # within a track
            self._formats += 1
            if self._formats > MAX_FORMATS:
                raise DamagedMedia(f"expected at most {MAX_FORMATS} changes of format in one stream, got more")
        if self._conversion is not None:
            parts.append(self._conversion.flush())
        self._source, self._conversion = source, None
        source.check(max_channels=self._max_channels)
        if self.format is None:
            self.format = mono(source) if self._downmix and source.channels > 1 else source
        if source != self.format:
            if mono(self.format).encoding is not self.format.encoding:
                raise UnsupportedMedia(
                    f"expected recordings of one format after {self.format.encoding}, got {source.encoding} at "
                    f"{source.sample_rate} Hz with {source.channels} channels"
                )
            self._conversion = Conversion(source, self.format)

    def _check_size(self, seconds: float) -> None:
        """Add up what was decoded, of all channels. Raises DamagedMedia if that is too much for the bytes."""
        channels = self._source.channels if self._source is not None else 1
        self.decoded_s += seconds * channels
        if self.decoded_s > FREE_SECONDS + self._received_bytes * 8 / MIN_BITS_PER_SECOND:
            raise DamagedMedia(
                f"expected at least {MIN_BITS_PER_SECOND} bit/s for each channel, got {self.decoded_s:.0f} s of audio "
                f"in {self._received_bytes} bytes"
            )


class _TrackDecoder:
    """Decodes the packets of one track, without what its container says to drop."""

    def __init__(self, track: Track, decoder: PacketDecoder) -> None:
        self._track = track
        self._decoder = decoder
        self._skip = track.skip
        """Samples at the track's rate that are still to be dropped."""
        self._left = track.length
        self._owed = 0
        """Samples of packets that could not be decoded before the format was known."""
        self._is_scaled = False
        self.codec = track.codec
        self.is_bad = False
        """Whether the last packet could not be decoded."""

    @property
    def format(self) -> AudioFormat | None:
        return self._decoder.format

    def decode(self, packet: Packet) -> tuple[bytes, float]:
        """Return the samples that are kept of a packet, and the seconds that were decoded for it."""
        decoder = self._decoder
        data = decoder.decode(packet.data)
        self.is_bad = data is None
        format_ = decoder.format
        if format_ is None:
            self._owed += packet.samples
            return b"", packet.samples / (self._track.sample_rate or _UNKNOWN_RATE)
        if data is None:
            data = decoder.conceal(self._scaled(packet.samples))
        seconds = len(data) / (format_.frame_bytes * format_.sample_rate)
        return self._kept(data, packet.trim), seconds

    def flush(self) -> bytes:
        data = self._decoder.flush()
        return self._kept(data, 0) if data else b""

    def _kept(self, data: bytes, trim: int) -> bytes:
        """Return the samples without those that the container drops."""
        format_ = self._decoder.format
        if format_ is None:
            return b""
        frame_bytes = format_.frame_bytes
        if not self._is_scaled:
            self._is_scaled = True
            self._skip = self._scaled(self._skip)
            self._left = None if self._left is None else self._scaled(self._left)
            data = bytes(self._scaled(self._owed) * frame_bytes) + data
        if trim:
            data = data[: max(0, len(data) - self._scaled(trim) * frame_bytes)]
        if self._skip:
            skipped = min(self._skip, len(data) // frame_bytes)
            self._skip -= skipped
            data = data[skipped * frame_bytes :]
        if self._left is not None:
            data = data[: self._left * frame_bytes]
            self._left -= len(data) // frame_bytes
        return data

    def _scaled(self, samples: int) -> int:
        """Convert a number of samples from the track's rate to the decoder's."""
        format_ = self._decoder.format
        assert format_ is not None
        rate = self._track.sample_rate
        return samples if rate in (0, format_.sample_rate) else round(samples * format_.sample_rate / rate)


def decode_all(pieces: Iterable[bytes], declared: MediaFormat, rate: int = 16_000) -> tuple[AudioFormat | None, bytes]:
    """Decode audio that is there as a whole, in pieces. Raises what `MediaDecoder.take` does."""
    decoder = MediaDecoder(declared, rate)
    parts = []
    for piece in pieces:
        decoder.push(piece)
        while decoder.is_pending:
            parts.append(decoder.take())
    decoder.finish()
    while decoder.is_pending:
        parts.append(decoder.take())
    return decoder.format, b"".join(parts)


_END = Track(codec=next(iter(STATE_BYTES)), sample_rate=0, channels=0)
"""Stands behind the last packet."""
