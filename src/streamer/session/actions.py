"""Actions of a session. The answers return by value through the session's own methods."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples
from streamer.errors import ErrorCode
from streamer.session.events import Event, Json

JobId = int


class JobKind(StrEnum):
    """Kind of a job's answer; the engine serves finals and pieces before interims."""

    FINAL = "final"
    INTERIM = "interim"
    PIECE = "piece"


class Job(msgspec.Struct, frozen=True, eq=False):
    """One call of the model, requested by a session.

    `samples`: float32 [n] in [-1, 1) at the model's sample rate, read-only, covering [start, start + n) of `channel`.
    `id` is unique within its session; `stream` counts the session's streams: a model's state ends with its stream.
    `options`: the client's JSON object, as bytes. `overlap`: samples at the beginning that the previous piece has too.
    """

    id: JobId
    session_id: str
    stream: int
    channel: int
    segment_id: int
    kind: JobKind
    start: int
    samples: NDArray[np.float32]
    sample_rate: int
    options: bytes
    overlap: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    @property
    def seconds(self) -> float:
        """Duration of the audio."""
        return len(self.samples) / self.sample_rate


class Output(msgspec.Struct, frozen=True):
    """Output of the model. `partial`: more follow for the same job (an item of a generator).

    `value`: JSON; empty if a partial one is audio alone. `audio`: samples, as float32 [channels, n] in bytes, at the
    model's output rate. `state_lost`: the state of a stateful model was lost with its worker, and processing restarted.
    """

    value: msgspec.Raw
    partial: bool = False
    state_lost: bool = False
    audio: bytes | memoryview = b""

    @classmethod
    def of(cls, value: Json, partial: bool = False, state_lost: bool = False) -> Output:
        """Return an output that holds `value`, encoded."""
        return cls(msgspec.Raw(msgspec.json.encode(value)), partial, state_lost)

    def decode(self) -> Any:
        """Return what `value` encodes."""
        return msgspec.json.decode(self.value)


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job failed. `message` is safe to show to a client; the log has the details."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Shed:
    """An interim that was dropped. `by_overload`: the queue was full; otherwise a newer one superseded it."""

    by_overload: bool = False


Outcome = Output | JobFailed | Shed


class Emit(msgspec.Struct, frozen=True):
    """Send an event to the client."""

    event: Event


class Score(msgspec.Struct, frozen=True, eq=False):
    """Score speech. `samples`: k * window of them, k > 0. `resets_state`: reset the scorer's state for a new stream.

    At most one is pending per channel.
    """

    channel: int
    samples: AudioSamples
    resets_state: bool


class Infer(msgspec.Struct, frozen=True):
    """Run the model."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a job. Best effort: a later answer is ignored."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Release:
    """Release the model's state of the stream with this number."""

    stream: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close after all events emitted so far. None: a normal end."""

    code: ErrorCode | None = None


class Decode(msgspec.Struct, frozen=True):
    """Call `CompressedInput.proceed`, once other connections have had their turn: audio waits to be decoded."""


Action = Emit | Score | Infer | Cancel | Release | Close | Decode
