"""What a session asks of the outside. Answers come back by value through the session's own methods."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamer.audio.coding import Samples
from streamer.errors import ErrorCode
from streamer.session.events import Event, Json

JobId = int


class JobKind(StrEnum):
    """What a job's answer will be; the engine serves finals and pieces before interims."""

    FINAL = "final"
    INTERIM = "interim"
    PIECE = "piece"


class Job(msgspec.Struct, frozen=True, eq=False):
    """One call of the model, asked for by a session.

    `samples`: float32 [n] in [-1, 1) at the model's sample rate, read-only, covering [start, start + n) of `channel`.
    `id` is unique within its session; `stream` counts the session's streams: a model's state ends with its stream.
    `options`: the client's JSON object, as bytes.
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

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.samples) / self.sample_rate


class Output(msgspec.Struct, frozen=True):
    """The model's answer, as the JSON that its worker made of it: nothing between the two looks into it.

    `partial`: more will follow for the same job (a generator's item that is not its last).
    `state_lost`: the model's state for this stream was lost with its worker; this answer starts from a new one.
    """

    value: msgspec.Raw
    partial: bool = False
    state_lost: bool = False

    @classmethod
    def of(cls, value: Json, partial: bool = False, state_lost: bool = False) -> Output:
        """Return an output that holds `value`, encoded."""
        return cls(msgspec.Raw(msgspec.json.encode(value)), partial, state_lost)

    def decode(self) -> Any:
        """Return what `value` encodes."""
        return msgspec.json.decode(self.value)


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The model gave no answer for this job. `message` is safe to show; the log has the rest."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Shed:
    """An interim that never ran. `overload`: more waits for the model than may; otherwise it was overtaken."""

    overload: bool = False


Outcome = Output | JobFailed | Shed


class Emit(msgspec.Struct, frozen=True):
    """Tell the client."""

    event: Event


class Score(msgspec.Struct, frozen=True, eq=False):
    """Score speech. `samples`: k * window of them, k > 0; `fresh`: a stream begins, the scorer's state starts anew.

    At most one is outstanding per channel.
    """

    channel: int
    samples: Samples
    fresh: bool


class Infer(msgspec.Struct, frozen=True):
    """Run the model."""

    job: Job


@dataclass(frozen=True, slots=True)
class Cancel:
    """This job's answer is not wanted any more. Best effort: an answer that still comes is ignored."""

    job: JobId


@dataclass(frozen=True, slots=True)
class Release:
    """The stream with this number is over: the model's state for it can go."""

    stream: int


@dataclass(frozen=True, slots=True)
class Close:
    """Say goodbye, after everything emitted so far. None: a normal end."""

    code: ErrorCode | None = None


class Decode(msgspec.Struct, frozen=True):
    """Call `CompressedInput.proceed`, once other connections have had their turn: audio waits to be decoded."""


Action = Emit | Score | Infer | Cancel | Release | Close | Decode
