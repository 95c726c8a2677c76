"""Backpressure: pauses reading from a peer that is too far ahead or over its work budget."""

from __future__ import annotations

import asyncio

from streamer.clock import Clock
from streamer.connection.budget import WorkBudget
from streamer.session.load import SessionLoad

MAX_AHEAD_DRAINING_S = 5.0
"""Seconds by which a peer may be ahead while the server drains, so that received audio is answered in time."""
_STOP_READING_S = -1.0


class ReadGate:
    """Pauses the reader of one connection. Bytes stay in the transport, and TCP slows the peer down."""

    def __init__(self, clock: Clock, max_ahead_s: float, budget: WorkBudget, load: SessionLoad) -> None:
        """Create an open gate.

        `max_ahead_s`: seconds of audio by which the peer may be ahead of the model. `load`: of the session.
        """
        self._clock = clock
        self._max_ahead_s = max_ahead_s
        self._budget = budget
        self._load = load
        self._allowed_s = max_ahead_s
        self._open_event: asyncio.Event | None = None
        self._room: asyncio.Event | None = None
        self._is_throttled = False
        self.is_closed = False
        """Whether the reader is paused, or decoding is."""

    def drain(self) -> None:
        """Reduce the allowed lead of the peer."""
        self._allowed_s = min(self._allowed_s, MAX_AHEAD_DRAINING_S)
        self._max_ahead_s = min(self._max_ahead_s, MAX_AHEAD_DRAINING_S)

    def finish(self) -> None:
        """Stop reading the stream."""
        self._max_ahead_s = self._allowed_s = _STOP_READING_S
        self.open_room()

    @property
    def is_finished(self) -> bool:
        """Whether reading has stopped for good."""
        return self._allowed_s == _STOP_READING_S

    def suspend(self) -> None:
        """Stop reading until `resume`: what was read has to be decoded first."""
        self._max_ahead_s = _STOP_READING_S

    def resume(self) -> None:
        """End `suspend`."""
        self._max_ahead_s = self._allowed_s
        self.open_if_caught_up()

    async def room(self) -> None:
        """Wait while more audio than allowed is not processed yet, or in memory, until half of it is."""
        if self._load.is_ahead(self._allowed_s) and not self.is_finished:
            self._room, self.is_closed = asyncio.Event(), True
            try:
                await self._room.wait()
            finally:
                self._room, self.is_closed = None, self._open_event is not None

    @property
    def is_ahead(self) -> bool:
        """Whether reading from the peer should be paused: too much audio is not processed yet, or in memory."""
        return self._load.is_ahead(self._max_ahead_s)

    def charge(self, spent_s: float) -> float:
        """Charge CPU time for a message without audio; return for how many seconds the peer must wait."""
        return self._budget.charge(spent_s, self._clock.now())

    @property
    def is_exhausted(self) -> bool:
        """Whether the peer exceeded its work budget for too long."""
        return self._budget.is_exhausted

    async def wait(self, owed_s: float = 0.0) -> None:
        """Wait until half of the backlog is processed and `owed_s` have passed."""
        self._open_event, self.is_closed, self._is_throttled = asyncio.Event(), True, owed_s > 0
        timer = self._clock.call_at(self._clock.now() + owed_s, self._end_throttle) if owed_s > 0 else None
        try:
            await self._open_event.wait()
        finally:
            self._open_event, self.is_closed, self._is_throttled = None, self._room is not None, False
            if timer is not None:
                timer.cancel()

    def open_if_caught_up(self) -> None:
        """Open the gate if the backlog is small enough."""
        if self._open_event is not None and not self._is_throttled and self._load.has_caught_up(self._max_ahead_s):
            self._open_event.set()
        if self._room is not None and self._load.has_caught_up(self._allowed_s):
            self._room.set()

    def open_room(self) -> None:
        """End the wait for room."""
        if self._room is not None:
            self._room.set()

    def open(self) -> None:
        """Open the gate: the session has ended."""
        self.open_room()
        if self._open_event is not None:
            self._open_event.set()

    def _end_throttle(self) -> None:
        self._is_throttled = False
        if not self.is_ahead:
            self.open()
