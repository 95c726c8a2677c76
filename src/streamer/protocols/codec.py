"""What a dialect is: frames to messages, events to frames. No rule of its own, no I/O, no clock."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streamer.session.events import Event
from streamer.session.messages import Message

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
