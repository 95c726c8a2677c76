"""The client's codecs of v1 and v2: requests to frames, frames to typed events."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.audio.format import Encoding
from streamer.client.errors import ProtocolError
from streamer.client.events import (
    AudioChunk,
    AudioResumed,
    AudioStarted,
    DataEvent,
    Error,
    Event,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
)
from streamer.client.transport import Request
from streamer.errors import BadRequest, InvalidFormat, brief
from streamer.protocols import v1_wire, v2_wire
from streamer.session.messages import Audio, Clear, Flush, KeepAlive, Start, Stop

_BITS = {Encoding.PCM_S16LE: (16, False), Encoding.PCM_F32LE: (32, True)}
_V2_TYPES = {str(struct.__struct_config__.tag) for struct in v2_wire.ServerEvent.__args__}


class V1ClientCodec:
    """v1 has fewer messages: unsupported requests raise an error before anything is sent."""

    name = "v1"

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._segments: dict[int, int] = {}
        """Id of the running segment per channel, which v1 does not send."""

    def encode(self, request: Request) -> str | bytes:
        match request:
            case Audio(data):
                return data
            case Start():
                self._segments.clear()
                return self._text(_v1_start(request))
            case Stop(keep_open):
                return self._text(v1_wire.Stop(disconnect=not keep_open))
            case Flush() | Clear() | KeepAlive():
                word = type(request).__name__.lower()
                raise BadRequest(f"v1 does not support {word}: connect to /api/v2")

    def decode(self, frame: str | bytes) -> Event | None:
        try:
            words = msgspec.json.decode(frame, type=dict[str, Any])
            match words.get("type"):
                case "segment":
                    return self._segment(words)
                case "active":
                    active = msgspec.convert(words, v1_wire.Active)
                    return SpeechStarted(active.channel, active.time)
                case "inactive":
                    inactive = msgspec.convert(words, v1_wire.Inactive)
                    return SpeechEnded(inactive.channel, inactive.time)
                case "error":
                    return _v1_error(msgspec.convert(words, v1_wire.Error))
                case "data":
                    return DataEvent(words.get("channel", 0), v1_wire.unflatten(words))
                case _:
                    return None
        except (msgspec.DecodeError, RecursionError) as error:
            raise _unreadable(frame, error) from error

    def _text(self, words: v1_wire.ClientMessage) -> str:
        return self._encoder.encode(words).decode()

    def _segment(self, words: dict[str, Any]) -> Segment:
        """Convert a result. On `/simple`, `is_final` is omitted and every result is final."""
        channel, is_final = words.get("channel", 0), words.get("is_final", True)
        segment_id = self._segments.get(channel, 1)
        if is_final:
            self._segments[channel] = segment_id + 1
        fields = {
            "type": "segment",
            "channel": channel,
            "segment_id": segment_id,
            "start_time": words.get("start_time"),
            "end_time": words.get("end_time"),
            "is_final": is_final,
            "output": v1_wire.unflatten(words),
        }
        return msgspec.convert(fields, Segment)


class V2ClientCodec:
    """v2, with all features."""

    name = "v2"

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._decoder: msgspec.json.Decoder[v2_wire.ServerEvent] = msgspec.json.Decoder(v2_wire.ServerEvent)
        self._answer = (0, 0)
        """Channel and segment of the audio that binary messages carry."""

    def encode(self, request: Request) -> str | bytes:
        match request:
            case Audio(data):
                return data
            case Start():
                return self._text(_v2_start(request))
            case Flush(id_):
                return self._text(v2_wire.Flush(id_))
            case Clear():
                return self._text(v2_wire.Clear())
            case Stop(keep_open):
                return self._text(v2_wire.Stop(keep_open))
            case KeepAlive():
                return self._text(v2_wire.KeepAlive())

    def decode(self, frame: str | bytes) -> Event | None:
        if isinstance(frame, bytes):
            return AudioChunk(*self._answer, frame)
        try:
            event = self._decoder.decode(frame)
            match event:
                case AudioStarted() | AudioResumed():
                    self._answer = (event.channel, event.segment_id)
                case Started():
                    self._answer = (0, 0)
            return event
        except (msgspec.DecodeError, RecursionError) as error:
            if _newer(frame):
                return None
            raise _unreadable(frame, error) from error

    def _text(self, words: v2_wire.ClientMessage) -> str:
        return self._encoder.encode(words).decode()


def _v1_start(start: Start) -> v1_wire.Start:
    if start.media is not None:
        raise BadRequest(f"v1 has no {start.media.container}; connect to /api/v2 for compressed audio")
    if start.format.encoding not in _BITS:
        raise InvalidFormat(
            field="format.encoding", expected="pcm_s16le or pcm_f32le on v1", got=str(start.format.encoding)
        )
    plain = Start(start.format, interim_results=start.interim_results, traceparent=start.traceparent)
    _no_mode(start)
    for name in ("interim_interval_ms", "chunk_ms", "vad", "tracestate", "metadata", "options", "audio_out"):
        if getattr(start, name) != getattr(plain, name):
            raise BadRequest(f"v1 does not support {name}: connect to /api/v2")
    bits, is_float = _BITS[start.format.encoding]
    return v1_wire.Start(
        trace_id=start.traceparent,
        format=v1_wire.Format(start.format.channels, start.format.sample_rate, bits, is_float),
        interim_results=start.interim_results,
    )


def _v1_error(error: v1_wire.Error) -> Error:
    """Convert an error, of which the original server sends only the message and the channel."""
    return Error(
        code=error.code or "unknown",
        message=error.message,
        fatal=bool(error.fatal),
        retryable=bool(error.retryable),
        channel=error.channel,
        start_time=error.start_time,
        end_time=error.end_time,
        retry_after_ms=error.retry_after_ms,
    )


def _v2_start(start: Start) -> v2_wire.Start:
    _no_mode(start)
    return v2_wire.Start(
        format=_v2_format(start),
        interim_results=start.interim_results,
        interim_interval_ms=start.interim_interval_ms,
        chunk_ms=start.chunk_ms,
        vad=start.vad,
        traceparent=start.traceparent,
        tracestate=start.tracestate,
        metadata=dict(start.metadata),
        options=msgspec.Raw(start.options),
        audio_out=start.audio_out,
    )


def _v2_format(start: Start) -> v2_wire.Format:
    media, form = start.media, start.format
    if media is None:
        return v2_wire.Format(form.encoding, form.sample_rate, form.channels)
    return v2_wire.Format(media.container, None, media.channels, media.downmix)


class _Tag(msgspec.Struct):
    type: str


def _no_mode(start: Start) -> None:
    if start.mode is not None:
        raise BadRequest("mode: over WebSocket the URL path selects it (/simple or /segmented)")


def _newer(frame: str | bytes) -> bool:
    """Return whether a frame is an event of a newer version of the protocol."""
    try:
        return msgspec.json.decode(frame, type=_Tag).type not in _V2_TYPES
    except (msgspec.DecodeError, RecursionError):
        return False


def _unreadable(frame: str | bytes, error: Exception) -> ProtocolError:
    return ProtocolError(f"the server sent an invalid message ({error}): {brief(frame)}")
