"""The states of a session and the effect of each message: one table for the code, the tests and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from streamer.session.messages import Audio, Auth, Clear, Configure, Flush, HalfClose, KeepAlive, SetFormat, Start, Stop


class SessionState(Enum):
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


class SessionStep(Enum):
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
    HALF_CLOSE = "leave"
    """Close; there is nothing to finish."""
    REFUSE = "refuse"
    """Send an error; nothing changes."""
    IGNORE = "ignore"


TABLE: Mapping[SessionState, Mapping[type, SessionStep]] = {
    SessionState.NEW: {
        Start: SessionStep.OPEN,
        Audio: SessionStep.REFUSE,
        Configure: SessionStep.REFUSE,
        SetFormat: SessionStep.IGNORE,
        Flush: SessionStep.REFUSE,
        Clear: SessionStep.REFUSE,
        Stop: SessionStep.REFUSE,
        HalfClose: SessionStep.HALF_CLOSE,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
    SessionState.STREAMING: {
        Start: SessionStep.RESTART,
        Audio: SessionStep.APPEND,
        Configure: SessionStep.CONFIGURE,
        SetFormat: SessionStep.SET_FORMAT,
        Flush: SessionStep.FLUSH,
        Clear: SessionStep.CLEAR,
        Stop: SessionStep.FINISH,
        HalfClose: SessionStep.FINISH,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
    SessionState.FLUSHING: {
        Start: SessionStep.WAIT,
        Audio: SessionStep.WAIT,
        Configure: SessionStep.WAIT,
        SetFormat: SessionStep.WAIT,
        Flush: SessionStep.WAIT,
        Clear: SessionStep.CLEAR,
        Stop: SessionStep.WAIT,
        HalfClose: SessionStep.WAIT,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
    SessionState.FINISHING: {
        Start: SessionStep.WAIT,
        Audio: SessionStep.WAIT,
        Configure: SessionStep.WAIT,
        SetFormat: SessionStep.WAIT,
        Flush: SessionStep.WAIT,
        Clear: SessionStep.CLEAR,
        Stop: SessionStep.WAIT,
        HalfClose: SessionStep.WAIT,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
    SessionState.IDLE: {
        Start: SessionStep.OPEN,
        Audio: SessionStep.REOPEN,
        Configure: SessionStep.REFUSE,
        SetFormat: SessionStep.SET_FORMAT,
        Flush: SessionStep.REFUSE,
        Clear: SessionStep.CLEAR,
        Stop: SessionStep.HALF_CLOSE,
        HalfClose: SessionStep.HALF_CLOSE,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
    SessionState.CLOSED: {
        Start: SessionStep.IGNORE,
        Audio: SessionStep.IGNORE,
        Configure: SessionStep.IGNORE,
        SetFormat: SessionStep.IGNORE,
        Flush: SessionStep.IGNORE,
        Clear: SessionStep.IGNORE,
        Stop: SessionStep.IGNORE,
        HalfClose: SessionStep.IGNORE,
        KeepAlive: SessionStep.IGNORE,
        Auth: SessionStep.IGNORE,
    },
}
