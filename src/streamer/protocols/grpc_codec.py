"""The gRPC codec: messages of v2 as protobuf. A frame is a serialized ClientMessage or ServerMessage."""

from __future__ import annotations

from enum import Enum

import msgspec
from google.protobuf.message import DecodeError

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode, InvalidFormat
from streamer.media.formats import MediaFormat
from streamer.protocols.codec import Timebase, milliseconds
from streamer.protocols.grpc_convert import (
    CONTAINERS,
    ENCODINGS,
    ERRORS,
    MODES,
    REASONS,
    WARNINGS,
    fill_struct,
    fill_value,
    read_struct,
)
from streamer.protocols.message_reader import (
    MAX_AUDIO_BYTES,
    MAX_CONTROL_BYTES,
    declared_format,
    deeper_than,
    too_big,
    unsupported_format,
    validate_options,
)
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.protocols.v2_wire import MAX_FLUSH_ID, MAX_TOKEN
from streamer.session import events
from streamer.session.events import Event, Mode
from streamer.session.messages import (
    Audio,
    AudioOutFormat,
    Auth,
    Clear,
    Flush,
    HalfClose,
    KeepAlive,
    Malformed,
    Message,
    Start,
    Stop,
    VadOverrides,
)

MAX_OUTPUT_DEPTH = 32
"""Maximum nesting of an output: protobuf parsers stop at 100 levels, and a level of JSON needs three."""

_MESSAGE_NAMES = ", ".join(field.name for field in pb.ClientMessage.DESCRIPTOR.fields)


class HalfCloseFrame(Enum):
    """Received in place of a frame when the client has closed its side of the call and still receives."""

    HALF_CLOSE = "half_close"


GrpcFrame = bytes | HalfCloseFrame


def frame_bytes(frame: GrpcFrame) -> int:
    """Return the bytes of a queued frame."""
    return len(frame) if isinstance(frame, bytes) else 0


class GrpcCodec:
    """Codec of all calls. `sample_rate`: of the model in Hz, the unit of event positions."""

    name = "grpc"
    joins_audio = True
    ends_with_connection = False

    def __init__(
        self,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._timebase = Timebase(sample_rate)
        self._max_control = max_control_bytes
        self._max_audio = max_audio_message_bytes

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: GrpcFrame) -> Message:
        if isinstance(frame, HalfCloseFrame):
            return HalfClose()
        message = _parse(frame)
        if message is None:
            return Malformed(ErrorCode.BAD_REQUEST, "not a streamer.v2.ClientMessage, or nested too deep")
        if message.HasField("audio"):
            return self._audio(message.audio)
        if len(frame) > self._max_control:
            return too_big("a control message", self._max_control, len(frame))
        return self._control(message)

    def encode(self, event: Event) -> bytes | None:
        message = _to_proto(event, self._timebase)
        return None if message is None else message.SerializeToString()

    def _control(self, message: pb.ClientMessage) -> Message:  # noqa: PLR0911 (one per message)
        match message.WhichOneof("message"):
            case "start":
                return self._start(message.start)
            case "flush":
                return _flush(message.flush)
            case "clear":
                return Clear()
            case "stop":
                return Stop(message.stop.keep_open)
            case "keepalive":
                return KeepAlive()
            case "auth":
                return _auth(message.auth.token)
            case _:
                return Malformed(
                    ErrorCode.BAD_REQUEST, f"message: expected one of {_MESSAGE_NAMES}, got an empty or unknown message"
                )

    def _audio(self, data: bytes) -> Audio | Malformed:
        if len(data) > self._max_audio:
            return too_big("an audio message", self._max_audio, len(data))
        return Audio(data)

    def _start(self, start: pb.Start) -> Start | Malformed:
        try:
            (agreed, media), audio_out = _format(start.format), _audio_out(start)
        except InvalidFormat as error:
            return unsupported_format(error)
        mode = MODES.value(start.mode)
        if mode is None and start.mode:
            return Malformed(ErrorCode.BAD_REQUEST, f"mode: expected one of {', '.join(Mode)}, got {start.mode}")
        options = validate_options(msgspec.json.encode(read_struct(start.options)))
        if isinstance(options, Malformed):
            return options
        return Start(
            format=agreed,
            media=media,
            interim_results=start.interim_results,
            interim_interval_ms=start.interim_interval_ms if start.HasField("interim_interval_ms") else None,
            chunk_ms=start.chunk_ms if start.HasField("chunk_ms") else None,
            vad=_overrides(start.vad),
            traceparent=start.traceparent if start.HasField("traceparent") else None,
            tracestate=start.tracestate if start.HasField("tracestate") else None,
            metadata=dict(start.metadata),
            options=options,
            mode=mode,
            audio_out=audio_out,
        )


def peek_auth(frame: GrpcFrame) -> tuple[Auth | None, bool]:
    """Return the credential of a first message (`auth`, or `start` with a token), and whether it contains more."""
    message = _parse(frame) if isinstance(frame, bytes) else None
    if message is None:
        return None, False
    credential = _auth(message.auth.token or message.start.token)
    return (credential if isinstance(credential, Auth) and credential.secret else None), message.HasField("start")


def _parse(frame: bytes) -> pb.ClientMessage | None:
    try:
        return pb.ClientMessage.FromString(frame)
    except DecodeError:
        return None


def _auth(token: str) -> Auth | Malformed:
    if len(token) > MAX_TOKEN:
        return Malformed(ErrorCode.BAD_REQUEST, f"token: expected at most {MAX_TOKEN} characters, got {len(token)}")
    return Auth(token)


def _format(format_: pb.AudioFormat) -> tuple[AudioFormat, MediaFormat | None]:
    encoding = ENCODINGS.value(format_.encoding) or CONTAINERS.value(format_.encoding)
    # A number that says nothing stands for one that was left out.
    rate, channels = format_.sample_rate or None, format_.channels or None
    if encoding is None or encoding in list(Encoding):
        rate, channels = format_.sample_rate, format_.channels
    return declared_format(str(encoding or format_.encoding), rate, channels, format_.downmix)


def _audio_out(start: pb.Start) -> AudioOutFormat | None:
    if not start.HasField("audio_out"):
        return None
    request = start.audio_out
    encoding = ENCODINGS.value(request.encoding)
    if encoding is None:
        raise InvalidFormat(field="audio_out.encoding", expected=f"one of {', '.join(Encoding)}", got=request.encoding)
    return AudioOutFormat(encoding, request.sample_rate, not request.unpaced)


def _overrides(vad: pb.VadOverrides) -> VadOverrides:
    return VadOverrides(**{field.name: value for field, value in vad.ListFields()})


def _flush(flush: pb.Flush) -> Flush | Malformed:
    if len(flush.id) > MAX_FLUSH_ID:
        return Malformed(ErrorCode.BAD_REQUEST, f"id: expected at most {MAX_FLUSH_ID} characters, got {len(flush.id)}")
    return Flush(flush.id if flush.HasField("id") else None)


def _audio_event(event: events.AudioEvent, clock: Timebase) -> pb.ServerMessage | None:
    match event:
        case events.AudioChunk():
            chunk = pb.AudioChunk(channel=event.channel, segment_id=event.segment_id, data=event.data)
            return pb.ServerMessage(audio=chunk)
        case events.AudioStarted():
            at = clock.seconds(event.position)
            started = pb.AudioStarted(channel=event.channel, segment_id=event.segment_id, start_time=at)
            return pb.ServerMessage(audio_started=started)
        case events.AudioEnded():
            message = pb.AudioEnded(channel=event.channel, segment_id=event.segment_id, frames=event.frames)
            return pb.ServerMessage(audio_ended=message)
        case events.Cleared():
            return pb.ServerMessage(cleared=pb.Cleared(frames=event.frames))
        case events.AudioResumed():
            return None  # each message of audio names its answer


def _to_proto(event: Event, clock: Timebase) -> pb.ServerMessage | None:  # noqa: PLR0911 (one per event)
    match event:
        case events.Segment():
            return _segment(event, clock)
        case events.Ack():
            return pb.ServerMessage(ack=pb.Ack(received=event.received, committed=event.committed))
        case events.SpeechStarted():
            opened = pb.SpeechStarted(channel=event.channel, time=clock.seconds(event.position))
            return pb.ServerMessage(speech_started=opened)
        case events.SpeechEnded():
            message = pb.SpeechEnded(channel=event.channel, time=clock.seconds(event.position))
            return pb.ServerMessage(speech_ended=message)
        case events.ErrorEvent():
            return _error(event, clock)
        case events.Started():
            return _started(event)
        case events.Flushed():
            return pb.ServerMessage(flushed=pb.Flushed(id=event.id))
        case events.WarningEvent():
            return pb.ServerMessage(warning=pb.Warning(code=WARNINGS.name(event.code), message=event.message))
        case events.Draining():
            return pb.ServerMessage(draining=pb.Draining(deadline_ms=milliseconds(event.deadline_s)))
        case events.Finished():
            return _finished(event)
        case events.Progress():
            raise AssertionError("no start over gRPC requests progress")
        case _:
            return _audio_event(event, clock)


def _segment(segment: events.Segment, clock: Timebase) -> pb.ServerMessage:
    output = msgspec.json.decode(segment.output)
    if deeper_than(MAX_OUTPUT_DEPTH, output):
        text = f"the model's output has more than {MAX_OUTPUT_DEPTH} levels of nesting, which gRPC cannot carry"
        code = ErrorCode.MODEL_ERROR
        return _error(
            events.ErrorEvent(code, text, channel=segment.channel, start=segment.start, end=segment.end), clock
        )
    message = pb.ServerMessage(
        segment=pb.Segment(
            channel=segment.channel,
            segment_id=segment.segment_id,
            start_time=clock.seconds(segment.start),
            end_time=clock.seconds(segment.end),
            is_final=segment.is_final,
        )
    )
    if isinstance(output, dict):
        fill_struct(message.segment.output, output)
    else:
        fill_value(message.segment.value, output)
    return message


def _error(event: events.ErrorEvent, clock: Timebase) -> pb.ServerMessage:
    return pb.ServerMessage(
        error=pb.Error(
            code=ERRORS.name(event.code),
            message=event.message,
            fatal=event.fatal,
            retryable=event.retryable,
            channel=event.channel,
            start_time=clock.seconds_or_none(event.start),
            end_time=clock.seconds_or_none(event.end),
            retry_after_ms=None if event.retry_after_s is None else milliseconds(event.retry_after_s),
        )
    )


def _started(event: events.Started) -> pb.ServerMessage:
    return pb.ServerMessage(
        started=pb.Started(
            session_id=event.session_id,
            mode=MODES.name(event.mode),
            model=pb.Model(name=event.model, sample_rate=event.model_sample_rate),
            limits=event.limits,
            traceparent=event.traceparent,
            audio_out=None if (out := event.audio_out) is None else _audio_out_info(out),
        )
    )


def _audio_out_info(out: events.AudioOutInfo) -> pb.AudioOutInfo:
    return pb.AudioOutInfo(
        encoding=ENCODINGS.name(out.encoding),
        sample_rate=out.sample_rate,
        channels=out.channels,
        latency_ms=out.latency_ms,
    )


def _finished(event: events.Finished) -> pb.ServerMessage:
    return pb.ServerMessage(
        finished=pb.Finished(
            reason=REASONS.name(event.reason),
            received=event.received,
            processed=event.processed,
            segments=event.segments,
            failed=event.failed,
        )
    )
