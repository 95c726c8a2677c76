"""Typed events of a server, which are the same for all protocol versions. Times are seconds of the stream."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.protocols.v2_wire import (
    Ack,
    AudioEnded,
    AudioOutInfo,
    AudioResumed,
    AudioStarted,
    Cleared,
    Draining,
    Error,
    Finished,
    Flushed,
    ModelInfo,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    WarningEvent,
)


class DataEvent(msgspec.Struct, frozen=True):
    """A result without times, as older v1 servers may send it."""

    channel: int
    output: Any


class AudioChunk(msgspec.Struct, frozen=True):
    """Audio out: interleaved frames in the format of `Started.audio_out`.

    On `segmented`, `channel` and `segment_id` name the answer; on `simple` both are 0.
    """

    channel: int
    segment_id: int
    data: bytes


Event = (
    Started
    | SpeechStarted
    | SpeechEnded
    | Segment
    | DataEvent
    | Ack
    | Flushed
    | WarningEvent
    | Error
    | Draining
    | Finished
    | AudioStarted
    | AudioResumed
    | AudioChunk
    | AudioEnded
    | Cleared
)

__all__ = [
    "Ack",
    "AudioChunk",
    "AudioEnded",
    "AudioOutInfo",
    "AudioResumed",
    "AudioStarted",
    "Cleared",
    "DataEvent",
    "Draining",
    "Error",
    "Event",
    "Finished",
    "Flushed",
    "ModelInfo",
    "Segment",
    "SpeechEnded",
    "SpeechStarted",
    "Started",
    "WarningEvent",
]
