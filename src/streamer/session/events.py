"""Events of a session. Positions are integers; only codecs use seconds.

`start`, `end` and `position` count samples of one channel at the model's sample rate from the start of the stream.
`received`, `processed` and `committed` count frames at the client's own sample rate. Events of each utterance are
Structs, which are created in a tenth of the time of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum

import msgspec

from streamer.audio.format import Encoding
from streamer.errors import RETRYABLE, ErrorCode, StreamerError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Mode(StrEnum):
    """Mode of a stream: all audio in contiguous pieces, or speech only."""

    SIMPLE = "simple"
    SEGMENTED = "segmented"


@dataclass(frozen=True, slots=True)
class AudioOutInfo:
    """Format of the audio that a stream answers with; `channels` are interleaved, `latency_ms` is the model's."""

    encoding: Encoding
    sample_rate: int
    channels: int
    latency_ms: float


class FinishReason(StrEnum):
    """Reason of a stream's end."""

    STOPPED = "stopped"
    RESTARTED = "restarted"
    DRAINED = "drained"


class EndReason(StrEnum):
    """Reason of the end of speech."""

    SILENCE = "silence"
    MAX_LENGTH = "max_length"
    """The speech continues in the next segment."""
    FLUSH = "flush"
    STALL = "stall"
    """No audio arrived for a while."""
    STOP = "stop"
    """The stream ended."""


class WarningCode(StrEnum):
    """Codes of warnings, which end nothing."""

    PARTIAL_FRAME = "partial_frame"
    AUDIO_CLAMPED = "audio_clamped"
    LAGGING = "lagging"
    INTERIMS_SHED = "interims_shed"
    STATE_LOST = "state_lost"


@dataclass(frozen=True, slots=True)
class Started:
    """The stream has started. `limits` are the session's limits."""

    session_id: str
    mode: Mode
    model: str
    model_sample_rate: int
    limits: Mapping[str, float]
    traceparent: str | None
    audio_out: AudioOutInfo | None = None


class SpeechStarted(msgspec.Struct, frozen=True):
    """Speech started at `position`."""

    channel: int
    position: int


class SpeechEnded(msgspec.Struct, frozen=True):
    """The last speech of this channel ended at `position`; its final follows."""

    channel: int
    position: int


class Segment(msgspec.Struct, frozen=True):
    """A result for [start, end). Interims of a `segment_id` replace each other until its final.

    `is_final` is True for every piece in simple mode.
    """

    channel: int
    segment_id: int
    start: int
    end: int
    is_final: bool
    output: msgspec.Raw
    """The model's output as JSON."""
    end_reason: EndReason | None = None
    """Reason of the end, of finals in segmented mode."""


class Progress(msgspec.Struct, frozen=True):
    """Speech detection has processed all audio before `position`; every start and end of speech in it was sent.

    A clock of the audio, for streams that request it. Segmented mode only.
    """

    position: int


class Ack(msgspec.Struct, frozen=True):
    """`received` frames have arrived; `committed` frames are covered by results already sent."""

    received: int
    committed: int


@dataclass(frozen=True, slots=True)
class Flushed:
    """Every result for audio before the flush with this id has been sent."""

    id: str | None


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """Something unusual; nothing ends."""

    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """An error.

    With a channel and a range: no result for that range, the stream continues. `fatal`: the close follows.
    """

    code: ErrorCode
    message: str
    _: KW_ONLY
    fatal: bool = False
    channel: int | None = None
    start: int | None = None
    end: int | None = None
    retry_after_s: float | None = None
    """Seconds before a retry; None if unknown."""

    @classmethod
    def from_error(cls, error: StreamerError, *, fatal: bool = False) -> ErrorEvent:
        """Return the event of an error."""
        return cls(error.code, error.message, fatal=fatal, retry_after_s=error.retry_after_s)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later, elsewhere, or with a new token."""
        return self.code in RETRYABLE


@dataclass(frozen=True, slots=True)
class Draining:
    """The server is shutting down; streams that still run after `deadline_s` are finished."""

    deadline_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a stream: every frame received was processed, or an error named its range."""

    reason: FinishReason
    received: int
    processed: int
    segments: int
    failed: int
    duration_s: float = field(default=0.0, compare=False)
    """Seconds of the audio that was received."""


class AudioStarted(msgspec.Struct, frozen=True):
    """The audio of a segment's answer follows; `position` is the start of the segment."""

    channel: int
    segment_id: int
    position: int


class AudioResumed(msgspec.Struct, frozen=True):
    """The audio of an answer goes on after audio of another channel."""

    channel: int
    segment_id: int


class AudioChunk(msgspec.Struct, frozen=True, eq=False):
    """Audio out: `frames` interleaved frames. `position`: of the input that the first one belongs to.

    In simple mode it has all channels, and `channel` and `segment_id` are 0.
    """

    channel: int
    segment_id: int
    position: int
    frames: int
    data: bytes


class AudioEnded(msgspec.Struct, frozen=True):
    """The audio of a segment's answer was sent: `frames` at the client's rate."""

    channel: int
    segment_id: int
    frames: int


class Cleared(msgspec.Struct, frozen=True):
    """A `clear` dropped `frames` of audio that had not been sent."""

    frames: int


AudioEvent = AudioStarted | AudioResumed | AudioChunk | AudioEnded | Cleared

PlainEvent = (
    Started
    | SpeechStarted
    | SpeechEnded
    | Segment
    | Progress
    | Ack
    | Flushed
    | WarningEvent
    | ErrorEvent
    | Draining
    | Finished
)
"""Events of every stream."""
Event = PlainEvent | AudioEvent
