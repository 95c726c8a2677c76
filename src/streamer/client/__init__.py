"""The client library: connect, send audio, iterate over typed events."""

from __future__ import annotations

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.errors import ConnectFailed, ConnectionClosed, HandshakeRefused, NotOfTheProtocol
from streamer.client.events import (
    Ack,
    Data,
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
    Warned,
)
from streamer.client.link import Closed
from streamer.client.stream import Received, Stream, connect
from streamer.media.formats import Container, MediaFormat
from streamer.session.messages import VadOverrides

__all__ = [
    "Ack",
    "AudioFormat",
    "Closed",
    "ConnectFailed",
    "ConnectionClosed",
    "Container",
    "Data",
    "Draining",
    "Encoding",
    "Error",
    "Event",
    "Finished",
    "Flushed",
    "HandshakeRefused",
    "MediaFormat",
    "ModelInfo",
    "NotOfTheProtocol",
    "Received",
    "Segment",
    "SpeechEnded",
    "SpeechStarted",
    "Started",
    "Stream",
    "VadOverrides",
    "Warned",
    "connect",
]
