"""A place in a stream up to which everything is dealt with before it goes on, or ends."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.events import FinishReason, Flushed


@dataclass(frozen=True, slots=True)
class Boundary:
    """What follows when the audio before a flush, a stall or an end has been dealt with."""

    flushed: Flushed | None = None
    """A flush: its event. A stall has none."""
    reason: FinishReason | None = None
    """The stream is over, and why."""
    close: bool = False
    code: ErrorCode | None = None
