"""What happens in a server, told once by the conductor; metrics, logs and traces listen."""

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
    """The parts of a server whose tasks and failures are counted apart; a metric label, so a closed set."""

    AUDIO_DECODING = "audio_decoding"
    """Sessions: decoding, resampling, finding speech."""
    CLIENT = "client"
    """Connections: reading from clients and writing to them."""
    INFERENCE = "inference"
    API_ROUTING = "api_routing"
    """Handshakes and plain HTTP."""
    METRICS = "metrics"
    OTHER = "other"
    """A callback or a thread that belongs to none of these."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """How a connection came. `began`: monotonic seconds; the trace context is what headers carried, unchecked."""

    began: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Who a session is. `transport`, `dialect` and `mode` are closed sets; `id` and `peer` never make a label."""

    id: str
    transport: str
    dialect: str
    mode: Mode
    peer: str
    handshake: Handshake = Handshake()


class SessionView(Protocol):
    """What a listener may ask of a session at any time of its life; each costs microseconds, so not per message."""

    @property
    def summary(self) -> Summary:
        """How far it has come."""

    @property
    def backlog_s(self) -> float:
        """Seconds of audio received and not yet dealt with."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory for its audio: what waits, speech that goes on, and what the model has."""

    def arrival(self, position: int) -> float | None:
        """When the stream's audio up to this sample at the model's rate had come, within 0.1 s of audio."""

    @property
    def busy_s(self) -> float:
        """Processor seconds spent in the session so far: decoding, resampling, windowing, endpointing."""


class SessionObserver:
    """Listens to one session; made by `Observer.session`, so that labels are looked up once.

    Called on the event loop, with monotonic seconds: it must not block and must not raise. Nothing is called per
    message: an `Ack`, each half second of audio, is the heartbeat at which audio is counted.
    """

    def starting(self, start: Start, now: float) -> str | None:
        """The client asks for a stream. Returns the traceparent that `started` carries back; None for the client's."""

    def emitted(self, event: Event, now: float) -> None:
        """An event was given to the writer."""

    def written(self, event: Event, now: float) -> None:
        """A result (a final, or an error in its place) was given to the transport."""

    def asked(self, job: Job, now: float) -> None:
        """The model was asked."""

    def answered(self, job: JobId, outcome: Outcome, now: float) -> None:
        """The model answered, or will not."""

    def held(self, now: float) -> None:
        """The client is too far ahead and is not read for a while."""

    def dropped(self, frames: int, now: float) -> None:
        """Interims or acks were dropped because the client reads slowly."""

    def closed(self, summary: Summary, code: ErrorCode | None, *, gone: bool, now: float) -> None:
        """The session is over. `gone`: the peer went first; `code`: what it was told, None for a normal end."""


class Observer:
    """Base of all listeners."""

    def session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        """A session begins; whatever is returned hears the rest."""
        return SessionObserver()

    def refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        """A session was not taken on. `peer` never makes a label."""

    def scored(self, audio_s: float, took_s: float) -> None:
        """The speech scorer ran one batch over so many seconds of audio, of all sessions, in `took_s`."""

    def broken(self, where: Subsystem, error: BaseException) -> None:
        """Our own code failed in a way that no rule foresees; the traceback is logged."""

    def task(self, where: Subsystem, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """What to make a task of, or to await, in place of `work`: the same, perhaps timed."""
        return work


class Observers(Observer):
    """Several listeners as one."""

    def __init__(self, listeners: Sequence[Observer]) -> None:
        self._listeners = tuple(listeners)

    def session(self, info: SessionInfo, view: SessionView, now: float) -> SessionObserver:
        observers = [listener.session(info, view, now) for listener in self._listeners]
        return observers[0] if len(observers) == 1 else _SessionObservers(observers)

    def refused(self, transport: str, code: ErrorCode, peer: str) -> None:
        for listener in self._listeners:
            listener.refused(transport, code, peer)

    def scored(self, audio_s: float, took_s: float) -> None:
        for listener in self._listeners:
            listener.scored(audio_s, took_s)

    def broken(self, where: Subsystem, error: BaseException) -> None:
        for listener in self._listeners:
            listener.broken(where, error)

    def task(self, where: Subsystem, work: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        for listener in self._listeners:
            work = listener.task(where, work)
        return work


class _SessionObservers(SessionObserver):
    def __init__(self, listeners: Sequence[SessionObserver]) -> None:
        self._listeners = tuple(listeners)

    def starting(self, start: Start, now: float) -> str | None:
        answers = [listener.starting(start, now) for listener in self._listeners]
        return next((answer for answer in answers if answer is not None), None)

    def emitted(self, event: Event, now: float) -> None:
        for listener in self._listeners:
            listener.emitted(event, now)

    def written(self, event: Event, now: float) -> None:
        for listener in self._listeners:
            listener.written(event, now)

    def asked(self, job: Job, now: float) -> None:
        for listener in self._listeners:
            listener.asked(job, now)

    def answered(self, job: JobId, outcome: Outcome, now: float) -> None:
        for listener in self._listeners:
            listener.answered(job, outcome, now)

    def held(self, now: float) -> None:
        for listener in self._listeners:
            listener.held(now)

    def dropped(self, frames: int, now: float) -> None:
        for listener in self._listeners:
            listener.dropped(frames, now)

    def closed(self, summary: Summary, code: ErrorCode | None, *, gone: bool, now: float) -> None:
        for listener in self._listeners:
            listener.closed(summary, code, gone=gone, now=now)
