"""Whose work is being done: the ids that log records and metrics' exemplars carry."""

from __future__ import annotations

from contextvars import ContextVar


class Ids:
    """Of one session. The trace is known once the client has started, so these change."""

    __slots__ = ("session_id", "span_id", "trace_id")

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.trace_id: str | None = None
        """32 hex digits, where the session is traced."""
        self.span_id: str | None = None
        """16 hex digits: the session's span."""


CURRENT: ContextVar[Ids | None] = ContextVar("streamer_ids", default=None)
"""Set in the task that runs a connection, so in all that it starts and in all timers that it sets."""
