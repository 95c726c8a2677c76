"""The client's codec of gRPC: requests to serialized messages, messages to typed events."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf.message import DecodeError, Message

from streamer.client.errors import ProtocolError
from streamer.client.events import (
    Ack,
    AudioChunk,
    AudioEnded,
    AudioOutInfo,
    AudioStarted,
    Cleared,
    Draining,
    Error,
    Event,
    Finished,
    Flushed,
    ModelInfo,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    WarningEvent,
)
from streamer.client.transport import Request
from streamer.errors import brief
from streamer.protocols.grpc_convert import (
    CONTAINERS,
    ENCODINGS,
    ERRORS,
    MODES,
    REASONS,
    WARNINGS,
    EnumMapping,
    fill_struct,
    read_struct,
    read_value,
)
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.events import Mode
from streamer.session.messages import Audio, Clear, Flush, KeepAlive, Start, Stop

NEWER = "unknown"
"""Code of a newer server that this version does not know."""


class GrpcClientCodec:
    """Codec with the same events as v2."""

    name = "grpc"

    def encode(self, request: Request) -> bytes:
        return _message(request).SerializeToString()

    def decode(self, frame: bytes) -> Event | None:
        try:
            message = pb.ServerMessage.FromString(frame)
        except DecodeError as error:
            raise ProtocolError(f"the server sent an invalid message ({error}): {brief(frame)}") from error
        word = message.WhichOneof("message")
        return None if word is None else _EVENTS[word](getattr(message, word))


def _message(request: Request) -> pb.ClientMessage:
    match request:
        case Audio(data):
            return pb.ClientMessage(audio=data)
        case Start():
            return pb.ClientMessage(start=_start(request))
        case Flush(id_):
            return pb.ClientMessage(flush=pb.Flush(id=id_))
        case Clear():
            return pb.ClientMessage(clear=pb.Clear())
        case Stop(keep_open):
            return pb.ClientMessage(stop=pb.Stop(keep_open=keep_open))
        case KeepAlive():
            return pb.ClientMessage(keepalive=pb.KeepAlive())


def _start(start: Start) -> pb.Start:
    message = pb.Start(
        format=_format(start),
        mode=None if start.mode is None else MODES.name(start.mode),
        interim_results=start.interim_results,
        interim_interval_ms=start.interim_interval_ms,
        chunk_ms=start.chunk_ms,
        vad=pb.VadOverrides(**msgspec.structs.asdict(start.vad)),
        traceparent=start.traceparent,
        tracestate=start.tracestate,
        metadata=start.metadata,
    )
    if (out := start.audio_out) is not None:
        audio_out = pb.AudioOutFormat(
            encoding=ENCODINGS.name(out.encoding), sample_rate=out.sample_rate, unpaced=not out.paced
        )
        message.audio_out.CopyFrom(audio_out)
    fill_struct(message.options, msgspec.json.decode(start.options))
    return message


def _format(start: Start) -> pb.AudioFormat:
    form, media = start.format, start.media
    if media is None:
        encoding = ENCODINGS.name(form.encoding)
        return pb.AudioFormat(encoding=encoding, sample_rate=form.sample_rate, channels=form.channels)
    return pb.AudioFormat(
        encoding=CONTAINERS.name(media.container), channels=media.channels or 0, downmix=media.downmix
    )


def _maybe(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _code(words: EnumMapping[Any], number: int) -> str:
    return words.value(number) or NEWER


def _started(started: pb.Started) -> Started:
    return Started(
        session_id=started.session_id,
        mode=MODES.value(started.mode) or Mode.SEGMENTED,
        model=ModelInfo(started.model.name, started.model.sample_rate),
        limits=dict(started.limits),
        traceparent=_maybe(started, "traceparent"),
        audio_out=_audio_out(started.audio_out) if started.HasField("audio_out") else None,
    )


def _audio_out(out: pb.AudioOutInfo) -> AudioOutInfo:
    encoding = ENCODINGS.value(out.encoding)
    if encoding is None:
        raise ProtocolError(f"the server sends audio in an unknown encoding: {out.encoding}")
    return AudioOutInfo(encoding, out.sample_rate, out.channels, out.latency_ms)


def _segment(segment: pb.Segment) -> Segment:
    is_object = segment.WhichOneof("result") == "output"
    return Segment(
        channel=segment.channel,
        segment_id=segment.segment_id,
        start_time=segment.start_time,
        end_time=segment.end_time,
        is_final=segment.is_final,
        output=read_struct(segment.output) if is_object else read_value(segment.value),
    )


def _error(error: pb.Error) -> Error:
    return Error(
        code=_code(ERRORS, error.code),
        message=error.message,
        fatal=error.fatal,
        retryable=error.retryable,
        channel=_maybe(error, "channel"),
        start_time=_maybe(error, "start_time"),
        end_time=_maybe(error, "end_time"),
        retry_after_ms=_maybe(error, "retry_after_ms"),
    )


def _finished(sums: pb.Finished) -> Finished:
    return Finished(_code(REASONS, sums.reason), sums.received, sums.processed, sums.segments, sums.failed)


_EVENTS: dict[str, Any] = {
    "started": _started,
    "speech_started": lambda event: SpeechStarted(event.channel, event.time),
    "speech_ended": lambda event: SpeechEnded(event.channel, event.time),
    "segment": _segment,
    "ack": lambda event: Ack(event.received, event.committed),
    "flushed": lambda event: Flushed(_maybe(event, "id")),
    "warning": lambda event: WarningEvent(_code(WARNINGS, event.code), event.message),
    "error": _error,
    "draining": lambda event: Draining(event.deadline_ms),
    "finished": _finished,
    "audio": lambda chunk: AudioChunk(chunk.channel, chunk.segment_id, chunk.data),
    "audio_started": lambda event: AudioStarted(event.channel, event.segment_id, event.start_time),
    "audio_ended": lambda event: AudioEnded(event.channel, event.segment_id, event.frames),
    "cleared": lambda event: Cleared(event.frames),
}
"""Converters by the name of the oneof field."""
