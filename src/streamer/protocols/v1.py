"""The v1 codec: the wire format of streamer-template, Streamer's predecessor, whose clients work unchanged."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import InvalidFormat, brief
from streamer.protocols import v1_wire as wire
from streamer.protocols.codec import Timebase, milliseconds
from streamer.protocols.message_reader import MAX_AUDIO_BYTES, MAX_CONTROL_BYTES, MessageReader, unsupported_format
from streamer.session.events import ErrorEvent, Event, Mode, Segment, SpeechEnded, SpeechStarted
from streamer.session.messages import Malformed, Message, Start, Stop

_ENCODINGS = {(16, False): Encoding.PCM_S16LE, (32, True): Encoding.PCM_F32LE}


class V1Codec:
    """Codec of one endpoint. `sample_rate`: of the model in Hz, the unit of event positions."""

    name: ClassVar[str] = "v1"
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
            "start, stop",
            max_control_bytes=max_control_bytes,
            max_audio_message_bytes=max_audio_message_bytes,
        )

    def begin(self) -> tuple[()]:
        return ()

    def decode(self, frame: str | bytes) -> Message:
        if not isinstance(frame, str):
            return self._reader.audio(frame)
        match self._reader.text(frame):
            case wire.Start() as start:
                return _start(start)
            case wire.Stop(disconnect=disconnect):
                return Stop(keep_open=not disconnect)
            case Malformed() as malformed:
                return malformed

    def encode(self, event: Event) -> str | None:
        words = self._message(event)
        return None if words is None else self._encoder.encode(words).decode()

    def _message(self, event: Event) -> msgspec.Struct | dict[str, Any] | None:
        seconds = self._timebase.seconds
        match event:
            case Segment():
                return self._segment(event)
            case SpeechStarted():
                return wire.Active(seconds(event.position), event.channel)
            case SpeechEnded():
                return wire.Inactive(seconds(event.position), event.channel)
            case ErrorEvent():
                return self._error(event)
            case _:
                return None  # v1 has no message for it

    def _segment(self, event: Segment) -> dict[str, Any]:
        head: dict[str, Any] = {
            "type": "segment",
            "start_time": self._timebase.seconds(event.start),
            "end_time": self._timebase.seconds(event.end),
        }
        if self._mode is Mode.SEGMENTED:
            head["is_final"] = event.is_final
        return wire.flatten(head, event.output, event.channel)

    def _error(self, event: ErrorEvent) -> wire.Error:
        return wire.Error(
            message=event.message,
            channel=event.channel or 0,  # v1 always has a channel
            code=event.code,
            fatal=event.fatal,
            retryable=event.retryable,
            start_time=self._timebase.seconds_or_none(event.start),
            end_time=self._timebase.seconds_or_none(event.end),
            retry_after_ms=None if event.retry_after_s is None else milliseconds(event.retry_after_s),
        )


def _start(start: wire.Start) -> Start | Malformed:
    format_ = start.format
    encoding = _ENCODINGS.get((format_.bit_depth, format_.is_float))
    try:
        if encoding is None:
            raise InvalidFormat(
                "format.bit_depth: expected 16 with is_float false, or 32 with is_float true, "
                f"got {brief(format_.bit_depth)} with is_float {str(format_.is_float).lower()}"
            )
        agreed = AudioFormat(encoding, format_.sample_rate, format_.channels).check()
    except InvalidFormat as error:
        return unsupported_format(error)
    return Start(agreed, interim_results=start.interim_results, traceparent=start.trace_id)
