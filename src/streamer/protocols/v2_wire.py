"""The messages of v2 on the wire, for server and client. Its events are also those of the client library.

`time`, `start_time` and `end_time` are seconds of the stream; `received`, `processed` and `committed` count frames
(samples per channel) at the client's own sample rate. An optional field that is None is omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from streamer.audio.format import Encoding
from streamer.session.events import Mode
from streamer.session.messages import AudioOutFormat, VadOverrides

MAX_FLUSH_ID = 256
MAX_TOKEN = 4_096
FlushId = Annotated[str, msgspec.Meta(max_length=MAX_FLUSH_ID)]


class ToServer(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """Base of client messages. Unknown fields are refused, so that a misspelling is noticed."""


class ToClient(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """Base of server events. A client ignores fields of a newer server."""


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Format of the audio of a stream.

    `encoding`: a value of Encoding; then `sample_rate` (Hz) and `channels` are required. Or a value of Container: the
    audio says the rest, but `channels` of raw Opus. `downmix`: join all channels into one.
    """

    encoding: str
    sample_rate: int | None = None
    channels: int | None = None
    downmix: bool = False


class Start(ToServer, frozen=True, tag="start"):
    """Begin a stream. `options` is passed to the model unchanged."""

    format: Format
    interim_results: bool = False
    interim_interval_ms: int | None = None
    chunk_ms: int | None = None
    vad: VadOverrides = VadOverrides()
    traceparent: str | None = None
    tracestate: str | None = None
    metadata: dict[str, str] = {}
    options: msgspec.Raw = msgspec.Raw(b"{}")
    audio_out: AudioOutFormat | None = None


class Flush(ToServer, frozen=True, tag="flush"):
    """End the running utterance here."""

    id: FlushId | None = None


class Stop(ToServer, frozen=True, tag="stop"):
    """Finish everything received."""

    keep_open: bool = False


class Clear(ToServer, frozen=True, tag="clear"):
    """Drop the audio out that has not been sent."""


class KeepAlive(ToServer, frozen=True, tag="keepalive"):
    """Reset the idle time-out."""


class Auth(ToServer, frozen=True, tag="auth"):
    """A key or a token: in a first message, if the server allows it, or a newer token later."""

    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)]


ClientMessage = Start | Flush | Clear | Stop | KeepAlive | Auth


class ModelInfo(msgspec.Struct, frozen=True):
    """The served model. `sample_rate` in Hz: positions are exact at this rate."""

    name: str
    sample_rate: int


class AudioOutInfo(msgspec.Struct, frozen=True):
    """Format of the binary messages. `sample_rate` in Hz; `channels` are interleaved; `latency_ms` is the model's."""

    encoding: Encoding
    sample_rate: int
    channels: int
    latency_ms: float


class Started(ToClient, frozen=True, tag="started"):
    """The stream has started; `limits` are its limits, each with its unit in its name."""

    session_id: str
    mode: Mode
    model: ModelInfo
    limits: Mapping[str, float]
    traceparent: str | None = None
    audio_out: AudioOutInfo | None = None


class SpeechStarted(ToClient, frozen=True, tag="speech_started"):
    """Speech started at `time`."""

    channel: int
    time: float


class SpeechEnded(ToClient, frozen=True, tag="speech_ended"):
    """The last speech of this channel ended at `time`; its final follows."""

    channel: int
    time: float


class Segment(ToClient, frozen=True, tag="segment"):
    """A result for [start_time, end_time). Interims of a `segment_id` replace each other until its final."""

    channel: int
    segment_id: int
    start_time: float
    end_time: float
    is_final: bool
    output: Any


class Ack(ToClient, frozen=True, tag="ack"):
    """`received` frames have arrived; `committed` frames are covered by results sent before this event."""

    received: int
    committed: int


class Flushed(ToClient, frozen=True, tag="flushed"):
    """Every result for audio before the flush with this id has been sent."""

    id: str | None = None


class WarningEvent(ToClient, frozen=True, tag="warning"):
    """Something unusual; nothing ends."""

    code: str
    message: str


class Error(ToClient, frozen=True, tag="error"):
    """An error. With a channel and a range: no result for that range. `fatal`: the last event before the close."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    channel: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    retry_after_ms: int | None = None


class Draining(ToClient, frozen=True, tag="draining"):
    """The server is shutting down; streams that still run after `deadline_ms` are finished."""

    deadline_ms: int


class Finished(ToClient, frozen=True, tag="finished"):
    """The last event of a stream: every frame received was processed, or an error named its range."""

    reason: str
    received: int
    processed: int
    segments: int
    failed: int


class AudioStarted(ToClient, frozen=True, tag="audio_started"):
    """Binary messages with the audio of a segment's answer follow. `start_time`: of the segment."""

    channel: int
    segment_id: int
    start_time: float


class AudioResumed(ToClient, frozen=True, tag="audio_resumed"):
    """The binary messages that follow belong to this answer again."""

    channel: int
    segment_id: int


class AudioEnded(ToClient, frozen=True, tag="audio_ended"):
    """The audio of a segment's answer was sent: `frames` at the asked rate."""

    channel: int
    segment_id: int
    frames: int


class Cleared(ToClient, frozen=True, tag="cleared"):
    """Answer to `clear`: `frames` of audio were dropped."""

    frames: int


ServerEvent = (
    Started
    | SpeechStarted
    | SpeechEnded
    | Segment
    | Ack
    | Flushed
    | WarningEvent
    | Error
    | Draining
    | Finished
    | AudioStarted
    | AudioResumed
    | AudioEnded
    | Cleared
)
