"""Interface of a codec (frames to messages, events to frames), and its unit of time. No I/O, no clock."""

from __future__ import annotations

import math
from typing import Protocol, TypeVar

from streamer.session.events import Event
from streamer.session.messages import Message


class Clock:
    """Seconds of positions that count samples at `sample_rate`.

    Rounded to the microsecond, which keeps JSON short and is finer than a sample at every rate that is served: a
    reader gets the position back exactly with `round(time * sample_rate)`.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    def seconds(self, position: int) -> float:
        return round(position / self._sample_rate, 6)

    def maybe(self, position: int | None) -> float | None:
        return None if position is None else self.seconds(position)


def milliseconds(seconds: float) -> int:
    """A duration, rounded up: who comes back after it does not come too early."""
    return math.ceil(seconds * 1000)


FrameT = TypeVar("FrameT")


class Codec(Protocol[FrameT]):
    """One for all connections to an address: it remembers nothing. Never raises for what came: a frame it cannot read
    becomes `Malformed`.

    `FrameT` is what the transport carries: `str | bytes` over WebSocket (text and binary), protobuf messages over gRPC.
    """

    @property
    def name(self) -> str:
        """The dialect's."""
        ...

    def decode(self, frame: FrameT) -> Message: ...

    def encode(self, event: Event) -> FrameT | None:
        """The frame for an event, or None where the dialect has no word for it."""
        ...
