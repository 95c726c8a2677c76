"""A barrier in a stream: all audio before it is processed before the stream continues or ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.events import EndReason, Event, Finished, FinishReason, Flushed, WarningCode, WarningEvent
from streamer.session.stream import Stream


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


def last_events(stream: Stream, reason: FinishReason) -> Iterator[Event]:
    """Yield the events of a stream that has ended: a warning about bytes of an incomplete frame, and its totals."""
    if extra := stream.partial_frame_bytes():
        size = stream.start.format.frame_bytes
        text = f"the audio ends with {extra} of the {size} bytes of a frame"
        yield WarningEvent(WarningCode.PARTIAL_FRAME, text)
    counters = stream.counters
    counts = (stream.received, stream.processed, counters.segments, counters.failed, stream.received_s)
    yield Finished(reason, *counts)
