"""Interface of a speech scorer: many streams, one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Row = int
"""Number of one stream's state inside a scorer."""


class SpeechScorer(Protocol):
    """Scores windows of many streams together. Not thread-safe: one caller at a time.

    A row is the state of a stream. `open` and `close` are cheap; a new row starts with zero state. Memory is bounded by
    the number of open rows.
    """

    sample_rate: int
    """Sample rate of the input in Hz."""
    window: int
    """Samples per window."""

    def open(self) -> Row: ...

    def close(self, row: Row) -> None: ...

    def reset(self, row: Row) -> None:
        """Reset a row to zero state, for another stream."""

    def score(self, pending: Sequence[tuple[Row, NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """Score all windows of each entry's samples (float32 [k * window], k differing), rows distinct.

        Returns speech probabilities, float32 [k], for each entry in order. Entries advance one window at a time side by
        side, so that one long entry cannot delay the others.
        """
        ...

    def score_windows(
        self, rows: Sequence[Row], counts: Sequence[int], windows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Score windows that are contiguous already, float32 [n, window]; returns float32 [n].

        `counts[0]` windows of `rows[0]` in their order, at least one, are followed by those of `rows[1]`, and so on.
        """
        ...
