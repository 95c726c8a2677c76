"""What a connection is to the conductor: frames in, frames out, one close. Each transport is a thin shell over this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from streamer.errors import ErrorCode

FrameT = TypeVar("FrameT")


class Transport(Protocol[FrameT]):
    """One connection. `receive` is called by one task, `send` and `close` by another."""

    name: str
    """`websocket`, `grpc`, `memory`: a metric label, so a closed set."""
    peer: str
    """Address of the other side, for logs."""
    signs: int
    """Control frames that came: the peer is alive even if it says nothing. Only ever grows."""

    async def receive(self) -> FrameT | None:
        """The next frame; None when the peer has gone or ended its side. Control frames are the transport's affair.

        Raises StreamerError where what came breaks the transport's own rules; the peer has been told by then.
        """
        ...

    def hand_over(self, take: Callable[[FrameT], bool] | None) -> None:
        """Offer the transport to call `take` with a frame at the moment it is there, while `receive` waits for one:
        so a message need not wake a task. It must not raise; False: this was enough for now. None: no more. A
        transport that cannot leaves everything to `receive`."""
        ...

    async def send(self, frame: FrameT) -> None:
        """Write one frame; waits while the peer is slow. Raises ConnectionError when the peer is gone."""
        ...

    def send_now(self, frame: FrameT) -> bool:
        """Write one frame if nothing has to be waited for, now or before it: so an event need not wake a task. False:
        nothing of it was written, leave it to `send`, which also says whether the peer is gone. Never while a `send`
        is under way. A transport that cannot leaves everything to `send`."""
        ...

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        """Say goodbye (None: normally), wait for the peer's answer within a bound, then let go. Idempotent."""
        ...

    def abort(self) -> None:
        """Let go at once. Idempotent."""
        ...
