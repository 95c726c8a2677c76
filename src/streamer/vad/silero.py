"""The batched Silero scorer: the state of a stream is a row; windows of all streams are scored together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.vad import network
from streamer.vad.network import BATCH, CONTEXT, GATES, HIDDEN, PADDED, WINDOW, Network
from streamer.vad.scorer import Row

FloatArray = NDArray[np.float32]

MIN_ROWS = 64
"""Rows that are kept even without open streams."""
ROW_BYTES = 4 * (2 * HIDDEN + CONTEXT)
"""Bytes of one open stream: the LSTM's two vectors and the last samples (1 280 bytes)."""


class SileroScorer:
    """Scores speech in 16 kHz windows of 512 samples for any number of streams; implements SpeechScorer.

    The convolutions have no time, so they process up to BATCH pending windows at once, of any streams: a long recording
    fills a batch as well as many streams do. Only the LSTM advances window by window, with all streams side by side.
    The place of a window in its batch changes its probability only by the rounding of float32 sums (about 1e-7).
    """

    sample_rate = network.SAMPLE_RATE
    window = WINDOW

    def __init__(self) -> None:
        self._network = Network()
        self._hidden = np.zeros((MIN_ROWS, HIDDEN), np.float32)
        self._cell = np.zeros((MIN_ROWS, HIDDEN), np.float32)
        self._context = np.zeros((MIN_ROWS, CONTEXT), np.float32)
        self._open: set[Row] = set()
        self._free_rows = list(range(MIN_ROWS))  # a heap: low rows are used first, so that high ones can be freed
        self._windows = np.empty((BATCH, PADDED), np.float32)
        self._gates = np.empty((BATCH, GATES), np.float32)

    @property
    def rows(self) -> int:
        """Number of open rows."""
        return len(self._open)

    @property
    def capacity(self) -> int:
        """Number of allocated rows, of ROW_BYTES each."""
        return len(self._hidden)

    def open(self) -> Row:
        if not self._free_rows:
            self._resize(2 * self.capacity)
        row = heapq.heappop(self._free_rows)
        self._open.add(row)
        self.reset(row)
        return row

    def close(self, row: Row) -> None:
        self._check((row,))
        self._open.remove(row)
        heapq.heappush(self._free_rows, row)
        if self.capacity > MIN_ROWS and len(self._open) <= self.capacity // 4:
            needed, capacity = max(self._open, default=0) + 1, MIN_ROWS
            while capacity < needed:
                capacity *= 2
            if capacity < self.capacity:
                self._resize(capacity)

    def reset(self, row: Row) -> None:
        self._check((row,))
        self._hidden[row] = self._cell[row] = self._context[row] = 0.0

    def score(self, pending: Sequence[tuple[Row, FloatArray]]) -> list[FloatArray]:
        """Implement `SpeechScorer.score`.

        Raises ValueError for a closed or repeated row, and for an incomplete window.
        """
        counts = [_whole_windows(samples) for _, samples in pending]
        chosen = [index for index, count in enumerate(counts) if count]
        results = [np.empty(0, np.float32)] * len(pending)
        self._check([row for row, _ in pending])
        if chosen:
            windows = np.concatenate([pending[index][1] for index in chosen]).reshape(-1, WINDOW)
            lengths = [counts[index] for index in chosen]
            scores = self.score_windows([pending[index][0] for index in chosen], lengths, windows)
            for index, probabilities in zip(chosen, np.split(scores, np.cumsum(lengths)[:-1]), strict=True):
                results[index] = probabilities
        return results

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: FloatArray) -> FloatArray:
        """Implement `SpeechScorer.score_windows`.

        Raises ValueError for a closed or repeated row, and if counts and windows do not match.
        """
        self._check(rows)
        if not len(rows) == len(counts) or sum(counts) != len(windows) or min(counts, default=1) < 1:
            raise ValueError(f"expected the windows of each row, at least one, got {len(windows)} for {len(rows)} rows")
        with np.errstate(over="ignore"):
            if len(rows) == len(windows):
                return self._score_one_each(np.array(rows, np.intp), windows)
            return self._score(np.array(rows, np.intp), np.array(counts, np.intp), windows)

    def _score_one_each(self, rows: NDArray[np.intp], windows: FloatArray) -> FloatArray:
        """Score one window of each row, the usual case of live streams.

        No window waits for one of the same row, so each part of a batch is processed while it is in the cache.
        """
        scores = np.empty(len(rows), np.float32)
        size = _round_up_even(len(rows))
        for start in range(0, len(rows), size):
            part = slice(start, min(start + size, len(rows)))
            some, audio = rows[part], windows[part]
            padded, gates = self._windows[: len(some)], self._gates[: len(some)]
            padded[:, :CONTEXT] = self._context[some]
            padded[:, CONTEXT : CONTEXT + WINDOW] = audio
            self._context[some] = audio[:, -CONTEXT:]
            self._network.encode(padded, gates)
            hidden, cell = self._hidden[some], self._cell[some]
            self._network.step(gates, hidden, cell)
            self._hidden[some], self._cell[some] = hidden, cell
            scores[part] = self._network.probabilities(hidden)
        return scores

    def _score(self, rows: NDArray[np.intp], counts: NDArray[np.intp], windows: FloatArray) -> FloatArray:
        ends = np.cumsum(counts)
        firsts = ends - counts
        gates = self._encoded(rows, firsts, windows)
        self._context[rows] = windows[ends - 1, -CONTEXT:]
        # Rows with the most windows first: the rows with a window at step t are then the first ones.
        order = np.argsort(-counts, kind="stable")
        rows, firsts = rows[order], firsts[order]
        hidden, cell = self._hidden[rows], self._cell[rows]
        outputs = np.empty((len(windows), HIDDEN), np.float32)
        live = len(rows)
        for step in range(int(counts.max(initial=0))):
            while counts[order[live - 1]] <= step:
                live -= 1
            at = firsts[:live] + step
            for first in range(0, live, BATCH):
                part = slice(first, min(first + BATCH, live))
                self._network.step(gates[at[part]], hidden[part], cell[part])
            outputs[at] = hidden[:live]
        self._hidden[rows], self._cell[rows] = hidden, cell
        return self._network.probabilities(outputs)

    def _encoded(self, rows: NDArray[np.intp], firsts: NDArray[np.intp], windows: FloatArray) -> FloatArray:
        """Return the LSTM's input for all windows [n, GATES], in batches of even size, at most BATCH each."""
        total = len(windows)
        if total > len(self._gates):
            self._gates = np.empty((max(total, 2 * len(self._gates)), GATES), np.float32)
        size = _round_up_even(total)
        for start in range(0, total, size):
            end = min(start + size, total)
            padded = self._windows[: end - start]
            padded[:, CONTEXT : CONTEXT + WINDOW] = windows[start:end]
            # The context of a window is the end of the previous one; of a row's first window, the row's last samples.
            padded[1:, :CONTEXT] = windows[start : end - 1, -CONTEXT:]
            if start:
                padded[0, :CONTEXT] = windows[start - 1, -CONTEXT:]
            low, high = np.searchsorted(firsts, (start, end))
            padded[firsts[low:high] - start, :CONTEXT] = self._context[rows[low:high]]
            self._network.encode(padded, self._gates[start:end])
        return self._gates[:total]

    def _check(self, rows: Sequence[Row]) -> None:
        if not self._open.issuperset(rows):
            raise ValueError(f"row {next(row for row in rows if row not in self._open)} is not open")
        if len(set(rows)) != len(rows):
            raise ValueError("a row may come once in a batch")

    def _resize(self, capacity: int) -> None:
        size = min(capacity, self.capacity)
        for name in ("_hidden", "_cell", "_context"):
            old: FloatArray = getattr(self, name)
            new = np.zeros((capacity, old.shape[1]), np.float32)
            new[:size] = old[:size]
            setattr(self, name, new)
        self._free_rows = [row for row in range(capacity) if row not in self._open]  # sorted, so a heap


def _round_up_even(total: int) -> int:
    """Return the batch size for the fewest passes of nearly equal size."""
    return -(-total // -(-total // BATCH)) if total else BATCH


def _whole_windows(samples: FloatArray) -> int:
    if samples.dtype.char != "f" or samples.ndim != 1 or len(samples) % WINDOW:
        raise ValueError(f"expected float32 [k * {WINDOW}], got {samples.dtype} {list(samples.shape)}")
    return len(samples) // WINDOW
