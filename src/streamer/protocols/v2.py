"""The v2 codec: the native protocol version, with all features."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from streamer.errors import InvalidFormat
from streamer.protocols import v2_wire as wire
from streamer.protocols.codec import Timebase, milliseconds
from streamer.protocols.message_reader import (
    MAX_AUDIO_BYTES,
    MAX_CONTROL_BYTES,
    MessageReader,
    declared_format,
    unsupported_format,
    validate_options,
)
from streamer.session import events
from streamer.session.events import Event, Mode
from streamer.session.messages import Auth, Clear, Flush, KeepAlive, Malformed, Message, Start, Stop


class V2Codec:
    """Codec of one endpoint. `sample_rate`: of the model in Hz, the unit of event positions."""

    name: ClassVar[str] = "v2"
    joins_audio: ClassVar[bool] = True
    ends_with_connection: ClassVar[bool] = False

    def __init__(
        self,
        mode: Mode,
        sample_rate: int,
        *,
        max_control_bytes: int = MAX_CONTROL_BYTES,
        max_audio_message_bytes: int = MAX_AUDIO_BYTES,
    ) -> None:
        self._mode = mode
        self._timebase = Timebase(sample_rate)
        self._encoder = msgspec.json.Encoder()
        self._reader: MessageReader[wire.ClientMessage] = MessageReader(
            wire.ClientMessage,
            "start, flush, clear, stop, keepalive, auth",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: str | bytes) -> Message:  # noqa: PLR0911 (one per message)
        if not isinstance(frame, str):
            return self._reader.audio(frame)
        match self._reader.text(frame):
            case wire.Start() as start:
                return _start(start)
            case wire.Flush(id=id_):
                return Flush(id_)
            case wire.Clear():
                return Clear()
            case wire.Stop(keep_open=keep_open):
                return Stop(keep_open)
            case wire.KeepAlive():
                return KeepAlive()
            case wire.Auth(token=token):
                return Auth(token)
            case Malformed() as malformed:
                return malformed

    def encode(self, event: Event) -> str | bytes:
        if type(event) is events.AudioChunk:
            return event.data
        return self._encoder.encode(to_wire(event, self._timebase)).decode()


def to_wire(event: Event, clock: Timebase) -> wire.ServerEvent:  # noqa: PLR0911 (one per event)
    """Convert an event to its v2 message, which is the same for every transport."""
    match event:
        case events.Segment():
            return wire.Segment(
                channel=event.channel,
                segment_id=event.segment_id,
                start_time=clock.seconds(event.start),
                end_time=clock.seconds(event.end),
                is_final=event.is_final,
                output=event.output,
            )
        case events.Ack():
            return wire.Ack(event.received, event.committed)
        case events.SpeechStarted():
            return wire.SpeechStarted(event.channel, clock.seconds(event.position))
        case events.SpeechEnded():
            return wire.SpeechEnded(event.channel, clock.seconds(event.position))
        case events.ErrorEvent():
            return _error(event, clock)
        case events.Started():
            return _started(event)
        case events.Flushed():
            return wire.Flushed(event.id)
        case events.WarningEvent():
            return wire.WarningEvent(event.code, event.message)
        case events.Draining():
            return wire.Draining(milliseconds(event.deadline_s))
        case events.Finished():
            return wire.Finished(event.reason, event.received, event.processed, event.segments, event.failed)
        case events.Progress():
            raise AssertionError("no start of v2 requests progress")
        case _:
            return _audio_event(event, clock)


def _audio_event(event: events.AudioEvent, clock: Timebase) -> wire.ServerEvent:
    match event:
        case events.AudioStarted():
            return wire.AudioStarted(event.channel, event.segment_id, clock.seconds(event.position))
        case events.AudioResumed():
            return wire.AudioResumed(event.channel, event.segment_id)
        case events.AudioEnded():
            return wire.AudioEnded(event.channel, event.segment_id, event.frames)
        case events.Cleared():
            return wire.Cleared(event.frames)
        case events.AudioChunk():
            raise AssertionError("audio is a binary message")


def _error(event: events.ErrorEvent, clock: Timebase) -> wire.Error:
    return wire.Error(
        code=event.code,
        message=event.message,
        fatal=event.fatal,
        retryable=event.retryable,
        channel=event.channel,
        start_time=clock.seconds_or_none(event.start),
        end_time=clock.seconds_or_none(event.end),
        retry_after_ms=None if event.retry_after_s is None else milliseconds(event.retry_after_s),
    )


def _started(event: events.Started) -> wire.Started:
    return wire.Started(
        session_id=event.session_id,
        mode=event.mode,
        model=wire.ModelInfo(event.model, event.model_sample_rate),
        limits=event.limits,
        traceparent=event.traceparent,
        audio_out=None if (out := event.audio_out) is None else audio_out_info(out),
    )


def audio_out_info(out: events.AudioOutInfo) -> wire.AudioOutInfo:
    """Convert the format of audio out."""
    return wire.AudioOutInfo(out.encoding, out.sample_rate, out.channels, out.latency_ms)


def _start(start: wire.Start) -> Start | Malformed:
    format_ = start.format
    try:
        agreed, media = declared_format(format_.encoding, format_.sample_rate, format_.channels, format_.downmix)
    except InvalidFormat as error:
        return unsupported_format(error)
    model_options = validate_options(bytes(start.options))
    if isinstance(model_options, Malformed):
        return model_options
    return Start(
        format=agreed,
        media=media,
        interim_results=start.interim_results,
        interim_interval_ms=start.interim_interval_ms,
        chunk_ms=start.chunk_ms,
        vad=start.vad,
        traceparent=start.traceparent,
        tracestate=start.tracestate,
        metadata=start.metadata,
        options=model_options,
        audio_out=start.audio_out,
    )
