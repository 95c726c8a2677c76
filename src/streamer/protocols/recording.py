"""The codec of a recording by POST: its bytes are the audio of one stream, and its answer is made of events."""

from __future__ import annotations

from streamer.protocols.codec import Reply
from streamer.session.events import ErrorEvent, Event, Finished, Segment
from streamer.session.messages import Audio, Message, Start, Stop

RecordingFrame = bytes | Event


class RecordingCodec:
    """Codec of one recording. The transport gives its bytes, and an empty frame at its end; it takes events."""

    joins_audio = False
    ends_with_connection = False

    def __init__(self, name: str, start: Start) -> None:
        """Create a codec. `name`: of the dialect. `start`: of the stream."""
        self.name = name
        self._start = start

    def begin(self) -> list[Message | Reply[RecordingFrame]]:
        return [self._start]

    def decode(self, frame: RecordingFrame) -> Message:
        assert isinstance(frame, bytes)
        return Audio(frame) if frame else Stop()

    def encode(self, event: Event) -> RecordingFrame | None:
        """Return the events that make the answer: finals, errors, and the end."""
        if isinstance(event, Segment):
            return event if event.is_final else None
        return event if isinstance(event, ErrorEvent | Finished) else None


def size_of(frame: RecordingFrame) -> int:
    """Return the bytes that a queued frame is counted with."""
    return len(frame.output) if isinstance(frame, Segment) else 256
