"""The rows of a connection in the speech scorer: one for each channel that has audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from streamer.connection.services import Scoring
from streamer.session.actions import Score
from streamer.vad.scorer import Row


class ScorerRows:
    """Opens a row with the first audio of a channel. `deliver(channel, speech)` receives the scores of its windows."""

    __slots__ = ("_deliver", "_rows", "_scoring")

    def __init__(self, scoring: Scoring, deliver: Callable[[int, Sequence[float]], None]) -> None:
        self._scoring = scoring
        self._deliver: Callable[[int, Sequence[float]], None] | None = deliver
        self._rows: dict[int, Row] = {}

    def submit(self, score: Score) -> None:
        """Have the windows of one channel scored."""
        channel = score.channel
        row = self._rows.get(channel)
        if row is None:
            assert self._deliver is not None, "a request after the rows were closed"
            row = self._rows[channel] = self._scoring.open(partial(self._deliver, channel))
        elif score.resets_state:
            self._scoring.reset(row)
        self._scoring.submit(row, score.samples)

    def close(self) -> None:
        """Close all rows; no scores are delivered after that, and `deliver` is released."""
        for row in self._rows.values():
            self._scoring.close(row)
        self._rows.clear()
        self._deliver = None  # a method of the connection: the two would keep each other alive
