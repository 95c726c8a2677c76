"""Interfaces of the client: a link carries frames, a dialect encodes and decodes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from streamer.client.events import Event
from streamer.session.messages import Audio, Clear, Flush, KeepAlive, Start, Stop

FrameT = TypeVar("FrameT")

Request = Start | Audio | Flush | Clear | Stop | KeepAlive
"""A message of the client: the session's messages except `Malformed`."""

SUBPROTOCOL = "streamer.v2"
"""Subprotocol of v2 over WebSocket."""
NORMAL = 1000
NO_CODE = 1005
"""RFC 6455 7.1.5: the peer sent a close frame without a code."""
LOST = 1006
"""RFC 6455 7.1.5: the connection ended without a close frame."""


def is_normal_end(code: int, *, stopped: bool) -> bool:
    """Return whether a close is a normal end. `stopped`: the client has requested the close.

    A close without a code is a normal end only after a stop, as some v1 servers send it. After a lost connection,
    events may be missing.
    """
    return code == NORMAL or (stopped and code == NO_CODE)


@dataclass(frozen=True, slots=True)
class Closed:
    """End of a connection: the transport's code and the server's reason.

    Over WebSocket it is the close code; over gRPC the number of the status (below 100). For both, 1000 is the normal
    end and 1006 a lost connection.
    """

    code: int
    reason: str = ""


class ClientCodec(Protocol[FrameT]):
    """The client's codec. One per connection."""

    name: str

    def encode(self, request: Request) -> FrameT:
        """Encode a request. Raises StreamerError if the protocol version does not support it."""
        ...

    def decode(self, frame: FrameT) -> Event | None:
        """Decode an event; return None for one that this version does not know. Raises NotOfTheProtocol."""
        ...


class ClientTransport(Protocol[FrameT]):
    """One connection. One task receives while others send."""

    async def send_frame(self, frame: FrameT) -> None:
        """Write one frame; waits while the server is slow. Raises ConnectionError if the connection has ended."""
        ...

    async def receive_frame(self) -> FrameT | Closed:
        """Return the next frame, or the end of the connection."""
        ...

    def has_peer_disconnected(self) -> bool:
        """Return whether the peer has ended the connection, even if received frames are unread.

        This is the only sign of it while no frame is received. The unread frames are in memory and bounded.
        """
        ...

    async def close(self) -> Closed:
        """Close the connection: wait for the peer's answer within a time-out.

        Idempotent. Return the end of the connection.
        """
        ...
