"""The words of v2 as they travel, for both ends. The events are also what the client library hands out.

`time`, `start_time` and `end_time` are seconds of the stream; `received`, `processed` and `committed` count frames
(samples per channel) at the client's own sample rate. An optional field that is None is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from streamer.audio.format import Encoding
from streamer.session.events import Mode
from streamer.session.messages import VadOverrides

MAX_FLUSH_ID = 256
MAX_TOKEN = 4_096
FlushId = Annotated[str, msgspec.Meta(max_length=MAX_FLUSH_ID)]


class ToServer(msgspec.Struct, frozen=True, tag_field="type", forbid_unknown_fields=True, omit_defaults=True):
    """A misspelt field must not be silent: unknown ones are refused."""


class ToClient(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A client reads past fields that a newer server has."""


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`sample_rate` in Hz; samples of the channels are interleaved."""

    encoding: Encoding
    sample_rate: int
    channels: int


class Start(ToServer, frozen=True, tag="start"):
    """Begin a stream. `options` goes to the model as it is."""

    format: Format
    interim_results: bool = False
    interim_interval_ms: int | None = None
    chunk_ms: int | None = None
    vad: VadOverrides = VadOverrides()
    traceparent: str | None = None
    tracestate: str | None = None
    metadata: dict[str, str] = {}
    options: msgspec.Raw = msgspec.Raw(b"{}")


class Flush(ToServer, frozen=True, tag="flush"):
    """End the running utterance here."""

    id: FlushId | None = None


class Stop(ToServer, frozen=True, tag="stop"):
    """Finish everything received."""

    keep_open: bool = False


class KeepAlive(ToServer, frozen=True, tag="keepalive"):
    """Still here."""


class Auth(ToServer, frozen=True, tag="auth"):
    """A key or a token: as the first message, where the server lets it be said here, or a newer one later."""

    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN)]


ClientMessage = Start | Flush | Stop | KeepAlive | Auth


class ModelInfo(msgspec.Struct, frozen=True):
    """What is served. `sample_rate` in Hz: positions are exact at this rate."""

    name: str
    sample_rate: int


class Started(ToClient, frozen=True, tag="started"):
    """The stream is open; `limits` are the ones it lives under, each with its unit in its name."""

    session_id: str
    mode: Mode
    model: ModelInfo
    limits: Mapping[str, float]
    traceparent: str | None = None


class SpeechStarted(ToClient, frozen=True, tag="speech_started"):
    """Speech opened at `time`."""

    channel: int
    time: float


class SpeechEnded(ToClient, frozen=True, tag="speech_ended"):
    """The speech opened last on this channel ended at `time`; its final follows."""

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
    """`received` frames are in memory; `committed` frames are covered by results sent before this."""

    received: int
    committed: int


class Flushed(ToClient, frozen=True, tag="flushed"):
    """Every result for audio before the flush with this id has been sent."""

    id: str | None = None


class Warned(ToClient, frozen=True, tag="warning"):
    """Something worth knowing; nothing ends."""

    code: str
    message: str


class Error(ToClient, frozen=True, tag="error"):
    """A fault. With a channel and a range: no result for that range. `fatal`: the last event before the close."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    channel: int | None = None
    start_time: float | None = None
    end_time: float | None = None
    retry_after_ms: int | None = None


class Draining(ToClient, frozen=True, tag="draining"):
    """The server is going away; finish within `deadline_ms` or be finished."""

    deadline_ms: int


class Finished(ToClient, frozen=True, tag="finished"):
    """The closing event of a stream: every frame received was processed, or an error named the range that was not."""

    reason: str
    received: int
    processed: int
    segments: int
    failed: int


ServerEvent = Started | SpeechStarted | SpeechEnded | Segment | Ack | Flushed | Warned | Error | Draining | Finished
