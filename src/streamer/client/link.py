"""The two seams of the client: a link carries frames, a dialect reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from streamer.client.events import Event
from streamer.session.messages import Audio, Flush, KeepAlive, Start, Stop

FrameT = TypeVar("FrameT")

Request = Start | Audio | Flush | Stop | KeepAlive
"""What a client can say: the session's messages, without the one for what could not be read."""

SUBPROTOCOL = "streamer.v2"
"""Of a WebSocket that speaks v2."""
NORMAL = 1000
NO_CODE = 1005
"""RFC 6455 7.1.5: the peer sent a close frame without a code."""
LOST = 1006
"""RFC 6455 7.1.5: the connection ended without a close frame."""


def is_normal_end(code: int, *, stopped: bool) -> bool:
    """Return whether a close is the end that was asked for. `stopped`: the client has asked for the close.

    A close without a code does not say that all went well, but it is an answer to the stop: some servers of v1 end so.
    After a lost connection nobody knows what else was to come.
    """
    return code == NORMAL or (stopped and code == NO_CODE)


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended: its carrier's code and the server's reason.

    Over WebSocket the close code. Over gRPC the number of the status (below 100). On both 1000 is the normal end and
    1006 a connection that was lost.
    """

    code: int
    reason: str = ""


class Dialect(Protocol[FrameT]):
    """The client's half of a codec. One per connection."""

    name: str

    def encode(self, request: Request) -> FrameT:
        """The frame of a request. Raises StreamerError where the dialect has no word for it."""
        ...

    def decode(self, frame: FrameT) -> Event | None:
        """The event in a frame; None for one that this version does not know. Raises NotOfTheProtocol."""
        ...


class Link(Protocol[FrameT]):
    """One connection. One task receives while others send."""

    async def send_frame(self, frame: FrameT) -> None:
        """Write one frame; waits while the server is slow. Raises ConnectionError when the connection is gone."""
        ...

    async def receive_frame(self) -> FrameT | Closed:
        """The next frame, or how the connection ended."""
        ...

    def has_peer_left(self) -> bool:
        """Return whether the peer has ended the connection, though frames of it may still be to be received.

        Nothing else tells while no frame is received. What is left then is in memory already, and has a bound.
        """
        ...

    async def close(self) -> Closed:
        """Say goodbye, wait for the answer within a bound, let go. Idempotent. How the connection ended."""
        ...
