"""The states of a session and the effect of each message: one table for the code, the tests and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from streamer.session.messages import Audio, Auth, Clear, Configure, Flush, KeepAlive, Leave, SetFormat, Start, Stop


class State(Enum):
    """State of a session. In `FLUSHING` and `FINISHING` it waits for results, and the client's messages are queued."""

    NEW = "new"
    """Connected; no format agreed."""
    STREAMING = "streaming"
    FLUSHING = "flushing"
    """A flush (or a stall) was requested; audio before it is being scored."""
    FINISHING = "finishing"
    """The stream has ended for the client; scores or results are pending."""
    IDLE = "idle"
    """A stream has ended; audio in its format, or a start, begins another one."""
    CLOSED = "closed"


class Step(Enum):
    """Step of a session for a message."""

    OPEN = "open"
    """Begin a stream."""
    REOPEN = "reopen"
    """Begin another stream in the agreed format, with this audio."""
    APPEND = "append"
    CONFIGURE = "configure"
    """Change the settings of the running stream."""
    SET_FORMAT = "set_format"
    """Begin the stream again, before any audio, in the format that its audio has."""
    FLUSH = "flush"
    CLEAR = "clear"
    """Drop audio out at once; nothing else changes."""
    FINISH = "finish"
    RESTART = "restart"
    """Finish the running stream, then begin the new one."""
    WAIT = "wait"
    """Queue the message until the pending results have arrived."""
    LEAVE = "leave"
    """Close; there is nothing to finish."""
    REFUSE = "refuse"
    """Send an error; nothing changes."""
    IGNORE = "ignore"


TABLE: Mapping[State, Mapping[type, Step]] = {
    State.NEW: {
        Start: Step.OPEN,
        Audio: Step.REFUSE,
        Configure: Step.REFUSE,
        SetFormat: Step.IGNORE,
        Flush: Step.REFUSE,
        Clear: Step.REFUSE,
        Stop: Step.REFUSE,
        Leave: Step.LEAVE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.STREAMING: {
        Start: Step.RESTART,
        Audio: Step.APPEND,
        Configure: Step.CONFIGURE,
        SetFormat: Step.SET_FORMAT,
        Flush: Step.FLUSH,
        Clear: Step.CLEAR,
        Stop: Step.FINISH,
        Leave: Step.FINISH,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.FLUSHING: {
        Start: Step.WAIT,
        Audio: Step.WAIT,
        Configure: Step.WAIT,
        SetFormat: Step.WAIT,
        Flush: Step.WAIT,
        Clear: Step.CLEAR,
        Stop: Step.WAIT,
        Leave: Step.WAIT,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.FINISHING: {
        Start: Step.WAIT,
        Audio: Step.WAIT,
        Configure: Step.WAIT,
        SetFormat: Step.WAIT,
        Flush: Step.WAIT,
        Clear: Step.CLEAR,
        Stop: Step.WAIT,
        Leave: Step.WAIT,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.IDLE: {
        Start: Step.OPEN,
        Audio: Step.REOPEN,
        Configure: Step.REFUSE,
        SetFormat: Step.SET_FORMAT,
        Flush: Step.REFUSE,
        Clear: Step.CLEAR,
        Stop: Step.LEAVE,
        Leave: Step.LEAVE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
    State.CLOSED: {
        Start: Step.IGNORE,
        Audio: Step.IGNORE,
        Configure: Step.IGNORE,
        SetFormat: Step.IGNORE,
        Flush: Step.IGNORE,
        Clear: Step.IGNORE,
        Stop: Step.IGNORE,
        Leave: Step.IGNORE,
        KeepAlive: Step.IGNORE,
        Auth: Step.IGNORE,
    },
}
