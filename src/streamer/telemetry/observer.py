"""What happens in a server, told once by the conductor; metrics, logs and traces listen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamer.errors import ErrorCode
from streamer.session.actions import Job, JobId, Outcome
from streamer.session.events import Event, Mode
from streamer.session.summary import Summary


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Who a session is. `transport`, `dialect` and `mode` are closed sets; `id` and `peer` never make a label."""

    id: str
    transport: str
    dialect: str
    mode: Mode
    peer: str


class SessionObserver:
    """Listens to one session; made by `Observer.session`, so that labels are looked up once.

    Called on the event loop, with monotonic seconds: it must not block and must not raise. Nothing is called per
    message: audio is counted from the summary, at the end or whenever somebody asks.
    """

    def emitted(self, event: Event, now: float) -> None:
        """An event was given to the writer."""

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

    def session(self, info: SessionInfo, summary: Callable[[], Summary], now: float) -> SessionObserver:
        """A session begins; whatever is returned hears the rest. `summary` says at any time how far it has come."""
        return SessionObserver()

    def refused(self, transport: str, code: ErrorCode) -> None:
        """A session was not taken on."""

    def broken(self, where: str, error: BaseException) -> None:
        """Our own code failed in a way that no rule foresees; the traceback is logged."""


class Observers(Observer):
    """Several listeners as one."""

    def __init__(self, listeners: Sequence[Observer]) -> None:
        self._listeners = tuple(listeners)

    def session(self, info: SessionInfo, summary: Callable[[], Summary], now: float) -> SessionObserver:
        return _SessionObservers([listener.session(info, summary, now) for listener in self._listeners])

    def refused(self, transport: str, code: ErrorCode) -> None:
        for listener in self._listeners:
            listener.refused(transport, code)

    def broken(self, where: str, error: BaseException) -> None:
        for listener in self._listeners:
            listener.broken(where, error)


class _SessionObservers(SessionObserver):
    def __init__(self, listeners: Sequence[SessionObserver]) -> None:
        self._listeners = tuple(listeners)

    def emitted(self, event: Event, now: float) -> None:
        for listener in self._listeners:
            listener.emitted(event, now)

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
