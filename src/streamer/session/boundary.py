"""A barrier in a stream: all audio before it is processed before the stream continues or ends."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.events import EndReason, FinishReason, Flushed


@dataclass(frozen=True, slots=True)
class Barrier:
    """The events after a barrier: sent when the audio before a flush, a stall or an end was processed."""

    flushed: Flushed | None = None
    """Event of a flush; None for a stall."""
    reason: FinishReason | None = None
    """Reason of the stream's end, if it ends."""
    close: bool = False
    code: ErrorCode | None = None

    @property
    def speech_end(self) -> EndReason:
        """Reason of the end of speech that is open at this barrier."""
        if self.flushed is not None:
            return EndReason.FLUSH
        return EndReason.STALL if self.reason is None else EndReason.STOP
