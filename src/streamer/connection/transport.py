"""The transport interface: frames in, frames out, one close. Each transport is a thin adapter of it."""

from __future__ import annotations

from typing import Protocol, TypeVar

from streamer.errors import ErrorCode

FrameT = TypeVar("FrameT")
SinkFrameT_contra = TypeVar("SinkFrameT_contra", contravariant=True)


class FrameSink(Protocol[SinkFrameT_contra]):
    """Synchronous frame consumer called from the transport's protocol callback. Its methods must not raise."""

    @property
    def coalesce_bytes(self) -> int:
        """Largest number of bytes up to which small binary frames may be joined into one."""
        ...

    def feed_frame(self, frame: SinkFrameT_contra) -> bool:
        """Process a frame. Returns False to pause the delivery."""
        ...

    def low_watermark_bytes(self) -> int:
        """Return the bytes of binary frames needed for the next processing step.

        A transport may wait for them for a while.
        """
        ...


class Transport(Protocol[FrameT]):
    """One connection. One task calls `receive`, another one `send` and `close`."""

    name: str
    """`websocket`, `grpc`, `tcp` or `memory`: a metric label, so a closed set."""
    peer: str
    """Address of the peer, for logs."""

    @property
    def control_frames_received(self) -> int:
        """Control frames received, which show that a silent peer is alive. Never decreases."""
        ...

    @property
    def has_peer_closed(self) -> bool:
        """Whether the peer closed the connection normally, instead of vanishing or violating the protocol."""
        ...

    async def receive(self) -> FrameT | None:
        """Return the next frame; None when the peer has disconnected or closed its side.

        The transport handles control frames itself. Raises StreamerError if the peer violates the transport's protocol;
        the peer has been told then.
        """
        ...

    def set_sink(self, sink: FrameSink[FrameT] | None) -> None:
        """Set the consumer that gets frames directly while `receive` waits, so that a message need not wake a task.

        None removes the consumer. A transport without support leaves all frames to `receive`.
        """
        ...

    async def send(self, frame: FrameT) -> None:
        """Write one frame; waits while the peer is slow. Raises ConnectionError if the peer has disconnected."""
        ...

    def send_now(self, frame: FrameT) -> bool:
        """Write one frame if this needs no waiting, so that an event need not wake a task.

        Returns False if nothing was written: use `send` then, which also reports a disconnected peer. Must not be
        called during a `send`. A transport without support always returns False.
        """
        ...

    async def close(self, code: ErrorCode | None, reason: str = "") -> None:
        """Close with an error code (None: normally), wait for the peer's answer within a time-out. Idempotent."""
        ...

    def abort(self) -> None:
        """Close immediately. Idempotent."""
        ...
