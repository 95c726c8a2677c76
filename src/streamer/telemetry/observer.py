"""Interface for observing a server; metrics, logs and traces implement it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobId, Outcome
from streamer.session.events import Event, Mode
from streamer.session.messages import Start
from streamer.session.summary import Summary

T = TypeVar("T")


class Subsystem(StrEnum):
    """Parts of a server whose tasks and errors are counted separately; a metric label, so a closed set."""

    AUDIO_DECODING = "audio_decoding"
    """Sessions: decoding, resampling, speech detection."""
    CLIENT = "client"
    """Connections: reading from clients and writing to them."""
    INFERENCE = "inference"
    API_ROUTING = "api_routing"
    """Handshakes and plain HTTP."""
    METRICS = "metrics"
    OTHER = "other"
    """A callback or a thread of no other subsystem."""


@dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """Start of a connection. `started_at`: monotonic seconds; the trace context is that of the headers, unvalidated."""

    started_at: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Identity of a session. `transport`, `protocol` and `mode` are closed sets; `id` and `peer` are never labels."""

    id: str
    transport: str
    protocol: str
    mode: Mode
    peer: str
    handshake: HandshakeInfo = HandshakeInfo()
    model: str = ""
    """Name of one of several models; empty on a server with one."""


class SessionView(Protocol):
    """Queries about a running session. Each costs microseconds, so they are not made per message."""

    @property
    def summary(self) -> Summary:
        """Totals so far."""

    @property
    def backlog_s(self) -> float:
        """Seconds of received audio that is not processed."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for audio: pending, in open speech, and in jobs of the model."""

    def arrival(self, position: int) -> float | None:
        """Return the arrival time of the audio up to this sample at the model's rate, within 0.1 s of audio."""

    @property
    def busy_s(self) -> float:
        """CPU seconds spent in the session so far: decoding, resampling, windowing, endpointing."""


class SessionObserver:
    """Observes one session; created by `Observer.new_session`, so that labels are looked up once.

    Called on the event loop with monotonic seconds; must not block or raise. Nothing is called per message: an `Ack`,
    each half second of audio, is the heartbeat at which audio is counted.
    """

    def on_start(self, start: Start, now: float) -> str | None:
        """Handle a start; return the traceparent for `started`, or None for the client's own."""

    def on_event(self, event: Event, now: float) -> None:
        """Handle an event that was given to the writer."""

    def on_result_written(self, event: Event, now: float) -> None:
        """Handle a result (a final, or an error in its place) that was given to the transport."""

    def on_job_submitted(self, job: Job, now: float) -> None:
        """Handle a job that was submitted to the model."""

    def on_job_outcome(self, job: JobId, outcome: Outcome, now: float) -> None:
        """Handle the outcome of a job."""

    def on_reading_paused(self, now: float) -> None:
        """Handle a pause of reading: the client is too far ahead."""

    def on_frames_dropped(self, frames: int, now: float) -> None:
        """Handle interims or acks that were dropped because the client reads slowly."""

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        """Handle the end of the session.

        `peer_disconnected`: the peer disconnected first, although its protocol has another end. `code`: its error, None
        for a normal end.
        """


class Observer:
    """Base of all observers."""

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        """Handle a new session; return its observer."""
        return SessionObserver()

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        """Handle a refused session. `peer` is never a label."""

    def on_batch_scored(self, audio_s: float, took_s: float) -> None:
        """Handle one batch of the speech scorer: `audio_s` seconds of audio of all sessions, scored in `took_s`."""

    def unexpected_error(self, where: Subsystem, error: BaseException) -> None:
        """Handle an unexpected error of the server itself. Its traceback is logged by the caller."""

    def instrument_task(self, where: Subsystem, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return the coroutine to run or await in place of `work`, perhaps with timing."""
        return work


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, listeners: Sequence[Observer]) -> None:
        self._listeners = tuple(listeners)

    def new_session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        observers = [listener.new_session(info, view, now) for listener in self._listeners]
        return observers[0] if len(observers) == 1 else _SessionObservers(observers)

    def on_refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        for listener in self._listeners:
            listener.on_refused(transport, code, peer)

    def on_batch_scored(self, audio_s: float, took_s: float) -> None:
        for listener in self._listeners:
            listener.on_batch_scored(audio_s, took_s)

    def unexpected_error(self, where: Subsystem, error: BaseException) -> None:
        for listener in self._listeners:
            listener.unexpected_error(where, error)

    def instrument_task(self, where: Subsystem, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        for listener in self._listeners:
            work = listener.instrument_task(where, work)
        return work


class _SessionObservers(SessionObserver):
    def __init__(self, listeners: Sequence[SessionObserver]) -> None:
        self._listeners = tuple(listeners)

    def on_start(self, start: Start, now: float) -> str | None:
        answers = [listener.on_start(start, now) for listener in self._listeners]
        return next((answer for answer in answers if answer is not None), None)

    def on_event(self, event: Event, now: float) -> None:
        for listener in self._listeners:
            listener.on_event(event, now)

    def on_result_written(self, event: Event, now: float) -> None:
        for listener in self._listeners:
            listener.on_result_written(event, now)

    def on_job_submitted(self, job: Job, now: float) -> None:
        for listener in self._listeners:
            listener.on_job_submitted(job, now)

    def on_job_outcome(self, job: JobId, outcome: Outcome, now: float) -> None:
        for listener in self._listeners:
            listener.on_job_outcome(job, outcome, now)

    def on_reading_paused(self, now: float) -> None:
        for listener in self._listeners:
            listener.on_reading_paused(now)

    def on_frames_dropped(self, frames: int, now: float) -> None:
        for listener in self._listeners:
            listener.on_frames_dropped(frames, now)

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        for listener in self._listeners:
            listener.on_close(summary, code, peer_disconnected=peer_disconnected, now=now)
