"""The client library: connect, send audio, iterate over typed events."""

from __future__ import annotations

from streamer.audio.format import AudioFormat, Encoding
from streamer.client.errors import ConnectFailed, ConnectionClosed, HandshakeRefused, ProtocolError
from streamer.client.events import (
    Ack,
    AudioChunk,
    AudioEnded,
    AudioOutInfo,
    AudioResumed,
    AudioStarted,
    Cleared,
    DataEvent,
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
from streamer.client.stream import Received, Stream, connect
from streamer.client.transport import Closed
from streamer.media.formats import Container, MediaFormat
from streamer.session.messages import AudioOutFormat, VadOverrides

__all__ = [
    "Ack",
    "AudioChunk",
    "AudioEnded",
    "AudioFormat",
    "AudioOutFormat",
    "AudioOutInfo",
    "AudioResumed",
    "AudioStarted",
    "Cleared",
    "Closed",
    "ConnectFailed",
    "ConnectionClosed",
    "Container",
    "DataEvent",
    "Draining",
    "Encoding",
    "Error",
    "Event",
    "Finished",
    "Flushed",
    "HandshakeRefused",
    "MediaFormat",
    "ModelInfo",
    "ProtocolError",
    "Received",
    "Segment",
    "SpeechEnded",
    "SpeechStarted",
    "Started",
    "Stream",
    "VadOverrides",
    "WarningEvent",
    "connect",
]
