"""What a connection is to the conductor: frames in, frames out, one close. Each transport is a thin shell over this."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streamer.errors import ErrorCode

FrameT = TypeVar("FrameT")
HeardT_contra = TypeVar("HeardT_contra", contravariant=True)


class Ear(Protocol[HeardT_contra]):
    """Who hears what comes, without a task that waits for it. Nothing of it may raise."""

    @property
    def joined(self) -> int:
        """Binary frames that are together at most so many bytes may be given as one."""
        ...

    def take(self, frame: HeardT_contra) -> bool:
        """A frame. False: this was enough for now."""
        ...

    def wanted(self) -> int:
        """Bytes of binary frames without which nothing can be done. A transport may wait for them, for a while."""
        ...


class Transport(Protocol[FrameT]):
    """One connection. `receive` is called by one task, `send` and `close` by another."""

    name: str
    """`websocket`, `grpc`, `memory`: a metric label, so a closed set."""
    peer: str
    """Address of the other side, for logs."""

    @property
    def signs(self) -> int:
        """Control frames that came: the peer is alive even if it says nothing. Only ever grows."""
        ...

    async def receive(self) -> FrameT | None:
        """The next frame; None when the peer has gone or ended its side. Control frames are the transport's affair.

        Raises StreamerError where what came breaks the transport's own rules; the peer has been told by then.
        """
        ...

    def hand_over(self, ear: Ear[FrameT] | None) -> None:
        """Offer the transport to give frames to this ear at the moment they are there, while `receive` waits for one:
        so a message need not wake a task. None: no more. A transport that cannot leaves everything to `receive`."""
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
