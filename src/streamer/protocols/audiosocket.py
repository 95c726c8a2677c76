"""The framing and the codec of Asterisk's AudioSocket: the audio of a call over TCP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, NamedTuple
from uuid import UUID

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import BadRequest, ErrorCode
from streamer.protocols.calls import CallReport
from streamer.protocols.codec import Reply
from streamer.session.events import Event
from streamer.session.messages import Audio, HalfClose, KeepAlive, Malformed, Message, Start

HANGUP, IDENTITY, DIGIT, ERROR = 0x00, 0x01, 0x03, 0xFF
RATES: Mapping[int, int] = MappingProxyType(
    {
        0x10: 8_000,
        0x11: 12_000,
        0x12: 16_000,
        0x13: 24_000,
        0x14: 32_000,
        0x15: 44_100,
        0x16: 48_000,
        0x17: 96_000,
        0x18: 192_000,
    }
)
"""Sample rate in Hz of each kind of audio, which is pcm_s16le and mono."""
TRACK = "caller"
_HEAD_BYTES = 3
_UUID_BYTES = 16


class AudioSocketFrame(NamedTuple):
    """One message: its kind, and its payload of at most 64 KiB."""

    kind: int
    payload: bytes = b""


@dataclass(slots=True)
class AudioSocketParser:
    """Parser of the bytes of one connection, cut anywhere."""

    _buffer: bytearray = field(default_factory=bytearray)

    @property
    def held_bytes(self) -> int:
        """Bytes that were fed and not returned."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self._buffer += data

    def next(self) -> AudioSocketFrame | None:
        """Return the next frame, once all of it was fed. Raises BadRequest for a kind that is not known."""
        buffer = self._buffer
        if not buffer:
            return None
        kind = buffer[0]
        if kind not in RATES and kind not in (HANGUP, IDENTITY, DIGIT, ERROR):
            raise BadRequest(field="kind", expected="a kind of AudioSocket", got=f"0x{kind:02x}")
        if len(buffer) < _HEAD_BYTES:
            return None
        end = _HEAD_BYTES + int.from_bytes(buffer[1:_HEAD_BYTES], "big")
        if len(buffer) < end:
            return None
        payload = bytes(buffer[_HEAD_BYTES:end])
        del buffer[:end]
        return AudioSocketFrame(kind, payload)


def encode_frame(frame: AudioSocketFrame) -> bytes:
    """Return the bytes of a frame."""
    return bytes((frame.kind,)) + len(frame.payload).to_bytes(2, "big") + frame.payload


def call_id_of(frame: AudioSocketFrame) -> str:
    """Return the id of a call from its first frame. Raises BadRequest."""
    if frame.kind != IDENTITY or len(frame.payload) != _UUID_BYTES:
        raise BadRequest(field="first message", expected="the UUID of the call (0x01)", got=f"0x{frame.kind:02x}")
    return str(UUID(bytes=frame.payload))


class AudioSocket:
    """Codec of one call, whose results go to its report."""

    name: ClassVar[str] = "audiosocket"
    joins_audio: ClassVar[bool] = False
    ends_with_connection: ClassVar[bool] = False

    def __init__(self, call_id: str, report: CallReport) -> None:
        self._call_id = call_id
        self._report = report
        self._kind: int | None = None
        """Kind of the call's audio, once it has begun."""

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: AudioSocketFrame) -> Message | list[Message | Reply[AudioSocketFrame]]:
        if frame.kind in RATES:
            return self._audio(frame)
        if frame.kind == DIGIT:
            self._report.digit(frame.payload[:1].decode("ascii", "replace"))
        elif frame.kind in (HANGUP, ERROR):
            return HalfClose()
        return KeepAlive()

    def encode(self, event: Event) -> None:
        self._report.event(event)

    def _audio(self, frame: AudioSocketFrame) -> Message | list[Message | Reply[AudioSocketFrame]]:
        audio = Audio(frame.payload)
        if frame.kind == self._kind:
            return audio
        if self._kind is not None:
            text = f"audio: expected {RATES[self._kind]} Hz as before, got {RATES[frame.kind]} Hz"
            return Malformed(ErrorCode.INVALID_FORMAT, text, fatal=True)
        self._kind, rate = frame.kind, RATES[frame.kind]
        self._report.start(self._call_id, (TRACK,), rate, {})
        return [Start(AudioFormat(Encoding.PCM_S16LE, rate, 1), interim_results=True), audio]
