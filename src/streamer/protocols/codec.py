"""Interface of a codec (frames to messages, events to frames), and its unit of time. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from streamer.session.events import Event
from streamer.session.messages import Message


class Timebase:
    """Converts positions, in samples at `sample_rate`, to seconds.

    Seconds are rounded to the microsecond, which keeps JSON short and is finer than a sample at every supported rate:
    `round(time * sample_rate)` returns the exact position.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    def seconds(self, position: int) -> float:
        return round(position / self._sample_rate, 6)

    def seconds_or_none(self, position: int | None) -> float | None:
        return None if position is None else self.seconds(position)


def milliseconds(seconds: float) -> int:
    """Return a duration in milliseconds, rounded up so that a client does not return too early."""
    return math.ceil(seconds * 1000)


FrameT = TypeVar("FrameT")


class Reply(NamedTuple, Generic[FrameT]):
    """A frame for the client. `is_replaceable`: it may be dropped for a client that reads slowly."""

    frame: FrameT
    is_replaceable: bool = False


class Codec(Protocol[FrameT]):
    """Codec of one protocol version.

    That of a native version is stateless and shared by all connections of an endpoint: a frame is a message, an event
    is a frame. That of a dialect belongs to one connection and remembers what it needs: a frame may be several messages
    and replies, an event several frames, each in a list.

    It never raises for client input: an unreadable frame becomes `Malformed`. `FrameT` is the frame type of the
    transport: `str | bytes` over WebSocket (text and binary), protobuf messages over gRPC.
    """

    @property
    def name(self) -> str:
        """Name of the protocol version."""
        ...

    @property
    def joins_audio(self) -> bool:
        """Whether small binary frames may be joined before they are decoded."""
        ...

    @property
    def ends_with_connection(self) -> bool:
        """Whether a client that closes its connection now ends the session as its protocol intends.

        Such a protocol has no message for the end, or no stream is open.
        """
        ...

    def begin(self) -> Sequence[Message | Reply[FrameT]]:
        """Return what precedes the client's first frame: a greeting, or a start that the request contained."""
        ...

    def decode(self, frame: FrameT) -> Message | list[Message | Reply[FrameT]]: ...

    def encode(self, event: Event) -> FrameT | list[Reply[FrameT]] | None:
        """Encode an event; return None if the protocol version has no message for it."""
        ...
