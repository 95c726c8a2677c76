"""Typed events of a server, which are the same for all protocol versions. Times are seconds of the stream."""

from __future__ import annotations

from typing import Any

import msgspec

from streamer.protocols.v2_wire import (
    Ack,
    Draining,
    Error,
    Finished,
    Flushed,
    ModelInfo,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    Warned,
)


class Data(msgspec.Struct, frozen=True):
    """A result without times, as older v1 servers may send it."""

    channel: int
    output: Any


Event = Started | SpeechStarted | SpeechEnded | Segment | Data | Ack | Flushed | Warned | Error | Draining | Finished

__all__ = [
    "Ack",
    "Data",
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
    "Warned",
]
