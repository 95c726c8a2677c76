"""Who is taken on: places are counted, and refused with a hint when to come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamer.errors import ErrorCode, Overloaded, StreamerError
from streamer.inference.contract import InferenceEngine


class NotServing(StreamerError):
    """The server is going away: the same request may succeed elsewhere."""

    code = ErrorCode.DRAINING


class Admission:
    """Places for sessions. A place is taken before the handshake is answered, so that a burst cannot pass the bound."""

    def __init__(self, max_sessions: int, engine: InferenceEngine, *, retry_after_s: float) -> None:
        self._max = max_sessions
        self._engine = engine
        self._retry_after_s = retry_after_s
        self.active = 0
        """Places taken."""
        self.starting = True
        """Nobody is taken on yet."""
        self.draining = False
        """Nobody is taken on any more."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for the time of the context. Raises Overloaded (with `retry_after_s`) or NotServing."""
        self._check()
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def _check(self) -> None:
        if self.draining:
            raise NotServing("the server is draining")
        if self.starting:
            raise Overloaded("the server is starting", retry_after_s=self._retry_after_s)
        if self.active >= self._max:
            raise Overloaded(f"{self._max} sessions are open, which is all", retry_after_s=self._retry_after_s)
        self._engine.check_admission()
