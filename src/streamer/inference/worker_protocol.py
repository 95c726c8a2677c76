"""The protocol of a worker: calls and replies, as objects for a thread and as bytes for a process."""

from __future__ import annotations

from enum import StrEnum

import msgspec
import numpy as np

from streamer.errors import ErrorCode
from streamer.inference.scheduler import StreamKey
from streamer.session.actions import Job, JobKind

NO_AUDIO = memoryview(b"")


class Op(StrEnum):
    """Operation of a worker."""

    LOAD = "load"
    """Build the model, load() and warm it."""
    INFER = "infer"
    HEALTH_CHECK = "canary"
    """Health check: infer silence."""
    CLOSE = "close"
    """Only close states."""
    UNLOAD = "unload"
    CANCEL = "cancel"
    """Cancel the overlapping call with the same id. That call replies, this one does not."""


class InferenceItem(msgspec.Struct, frozen=True, array_like=True):
    """One job. `samples`: float32 as bytes, which pickle does not copy. `options`: JSON."""

    session_id: str
    stream: int
    channel: int
    start: int
    is_final: bool
    sample_rate: int
    options: bytes
    samples: memoryview
    overlap: int = 0

    @property
    def stream_key(self) -> StreamKey:
        return (self.session_id, self.stream, self.channel)

    @classmethod
    def of(cls, job: Job) -> InferenceItem:
        samples = np.ascontiguousarray(job.samples, dtype=np.float32)
        return cls(
            job.session_id,
            job.stream,
            job.channel,
            job.start,
            job.kind is not JobKind.INTERIM,
            job.sample_rate,
            job.options,
            samples.data.cast("B").toreadonly() if len(samples) else memoryview(b""),  # an empty array cannot be cast
            job.overlap,
        )


class WorkerCall(msgspec.Struct, frozen=True, array_like=True):
    """An operation. `closing_keys`: streams whose states are closed first. `trace`: the traceparent of the batch.

    `id`: its replies have the same one. 0 if calls of the worker do not overlap.
    """

    op: Op
    items: list[InferenceItem] = []
    closing_keys: list[StreamKey] = []
    trace: str | None = None
    id: int = 0


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """An error. `message` is safe to show to a client.

    `detail`: the traceback of the author's code, and `line`: the error in one line with its place, for the log.
    `intended`: the model said itself that it failed on the item, by a ModelFailed.
    """

    code: ErrorCode
    message: str
    detail: str = ""
    line: str = ""
    intended: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Result of the item at `index`: JSON, or a fault. `partial`: more answers follow.

    `audio`: float32 [channels, n] as bytes, which neither JSON nor pickle touches.
    """

    index: int
    value: bytes = b"null"
    partial: bool = False
    fault: Fault | None = None
    audio: memoryview = NO_AUDIO


class WorkerReply(msgspec.Struct, frozen=True, array_like=True):
    """Answers, as they become available. `done`: the call has ended; `fault`: it failed as a whole.

    `rss`: resident bytes of the worker's process, if it has its own. `spans_lost`: spans lost since the last call.
    `id`: that of the call.
    """

    answers: list[Answer] = []
    done: bool = True
    fault: Fault | None = None
    rss: int = 0
    spans_lost: int = 0
    id: int = 0


LAYOUT = 2
"""Number of the layout of calls and replies. Both sides of a connection between machines must have the same."""

encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(WorkerCall).decode
decode_reply = msgspec.msgpack.Decoder(WorkerReply).decode
