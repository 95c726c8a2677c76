"""The contract between whoever conducts and whatever network scores speech: many streams, one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Row = int
"""Names one stream's carried state inside a scorer."""


class SpeechScorer(Protocol):
    """Scores windows of many streams together. Not thread-safe: one caller at a time.

    Rows are the streams. `open` and `close` are cheap; a fresh row starts with zero state. Memory is bounded by the
    number of open rows.
    """

    sample_rate: int
    """Hz of the samples it takes."""
    window: int
    """Samples per window."""

    def open(self) -> Row: ...

    def close(self, row: Row) -> None: ...

    def reset(self, row: Row) -> None:
        """Back to zero state: another stream begins on this row."""

    def score(self, pending: Sequence[tuple[Row, NDArray[np.float32]]]) -> list[NDArray[np.float32]]:
        """Score every whole window of each entry's samples (float32 [k * window], k differing), rows distinct.

        Returns speech probabilities, float32 [k], for each entry in order. Entries advance one window at a time beside
        each other, so that one long entry cannot starve the others' batch.
        """
        ...

    def score_windows(
        self, rows: Sequence[Row], counts: Sequence[int], windows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The same for windows that lie side by side already, float32 [n, window]: `counts[0]` of `rows[0]` in their
        order, at least one, then those of `rows[1]`. Returns float32 [n]."""
        ...
