"""The states of a session and what each message does in each: one table, read by the code, the tests and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from streamer.session.messages import Audio, Auth, Flush, KeepAlive, Leave, SetFormat, Start, Stop


class State(Enum):
    """Where a session is. `FLUSHING` and `FINISHING` wait for the outside; what the client says meanwhile waits too."""

    NEW = "new"
    """Connected, nothing agreed."""
    STREAMING = "streaming"
    FLUSHING = "flushing"
    """A flush (or a stall) was asked for; audio before it is still being scored."""
    FINISHING = "finishing"
    """The stream is over for the client; scores or results are still to come."""
    IDLE = "idle"
    """A stream has ended and its format still holds: audio or a start goes on."""
    CLOSED = "closed"


class Step(Enum):
    """What a session does with a message."""

    OPEN = "open"
    """Begin a stream."""
    REOPEN = "reopen"
    """Begin another stream in the format agreed before, with this audio."""
    APPEND = "append"
    SET_FORMAT = "set_format"
    """Begin the stream again, before any audio, in the format that its audio has."""
    FLUSH = "flush"
    FINISH = "finish"
    RESTART = "restart"
    """Finish the running stream, then begin the new one."""
    WAIT = "wait"
    """Keep the message until the outside has answered."""
    LEAVE = "leave"
    """Close, there is nothing to finish."""
    REFUSE = "refuse"
    """An error event, nothing changes."""
    IGNORE = "ignore"


TABLE: Mapping[State, Mapping[type, Step]] = {
    State.NEW: {
        Start: Step.OPEN,
        Audio: Step.REFUSE,
        SetFormat: Step.IGNORE,
        Flush: Step.REFUSE,
        Stop: Step.REFUSE,
        Leave: Step.LEAVE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.STREAMING: {
        Start: Step.RESTART,
        Audio: Step.APPEND,
        SetFormat: Step.SET_FORMAT,
        Flush: Step.FLUSH,
        Stop: Step.FINISH,
        Leave: Step.FINISH,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.FLUSHING: {
        Start: Step.WAIT,
        Audio: Step.WAIT,
        SetFormat: Step.WAIT,
        Flush: Step.WAIT,
        Stop: Step.WAIT,
        Leave: Step.WAIT,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.FINISHING: {
        Start: Step.WAIT,
        Audio: Step.WAIT,
        SetFormat: Step.WAIT,
        Flush: Step.WAIT,
        Stop: Step.WAIT,
        Leave: Step.WAIT,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.IDLE: {
        Start: Step.OPEN,
        Audio: Step.REOPEN,
        SetFormat: Step.SET_FORMAT,
        Flush: Step.REFUSE,
        Stop: Step.LEAVE,
        Leave: Step.LEAVE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.CLOSED: {
        Start: Step.IGNORE,
        Audio: Step.IGNORE,
        SetFormat: Step.IGNORE,
        Flush: Step.IGNORE,
        Stop: Step.IGNORE,
        Leave: Step.IGNORE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
}
