"""The batched Silero scorer: each stream's state is a row; windows of all streams go through together."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.vad import network
from streamer.vad.network import BATCH, CONTEXT, GATES, HIDDEN, PADDED, WINDOW, Network
from streamer.vad.scorer import Row

Floats = NDArray[np.float32]

MIN_ROWS = 64
"""Rows kept even when no stream is open."""
ROW_BYTES = 4 * (2 * HIDDEN + CONTEXT)
"""What one open stream costs: the LSTM's two vectors and the last samples heard (1 280 bytes)."""


class SileroScorer:
    """Scores speech in 16 kHz windows of 512 samples for any number of streams; see SpeechScorer for the contract.

    The convolutions know no time, so they take up to BATCH pending windows at once, whoever they belong to: a long
    recording fills a batch as well as many streams do. Only the LSTM walks window by window, all streams side by side.
    Where a window stood in its batch changes its probability by no more than the rounding of float32 sums (about 1e-7).
    """

    sample_rate = network.SAMPLE_RATE
    window = WINDOW

    def __init__(self) -> None:
        self._network = Network()
        self._hidden = np.zeros((MIN_ROWS, HIDDEN), np.float32)
        self._cell = np.zeros((MIN_ROWS, HIDDEN), np.float32)
        self._context = np.zeros((MIN_ROWS, CONTEXT), np.float32)
        self._open: set[Row] = set()
        self._free = list(range(MIN_ROWS))  # a heap: low rows are used first, so that the high ones can be given back
        self._windows = np.empty((BATCH, PADDED), np.float32)
        self._gates = np.empty((BATCH, GATES), np.float32)
        self._outputs = np.empty((BATCH, HIDDEN), np.float32)

    @property
    def rows(self) -> int:
        """Open rows."""
        return len(self._open)

    @property
    def capacity(self) -> int:
        """Rows there is memory for, ROW_BYTES each."""
        return len(self._hidden)

    def open(self) -> Row:
        if not self._free:
            self._resize(2 * self.capacity)
        row = heapq.heappop(self._free)
        self._open.add(row)
        self.reset(row)
        return row

    def close(self, row: Row) -> None:
        self._check(row)
        self._open.remove(row)
        heapq.heappush(self._free, row)
        if self.capacity > MIN_ROWS and len(self._open) <= self.capacity // 4:
            needed, capacity = max(self._open, default=0) + 1, MIN_ROWS
            while capacity < needed:
                capacity *= 2
            if capacity < self.capacity:
                self._resize(capacity)

    def reset(self, row: Row) -> None:
        self._check(row)
        self._hidden[row] = self._cell[row] = self._context[row] = 0.0

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        """See SpeechScorer. Raises ValueError for a row that is not open or comes twice, and for half a window."""
        counts = [self._whole_windows(row, samples) for row, samples in pending]
        if len({row for row, _ in pending}) != len(pending):
            raise ValueError("a row may come once in a batch")
        # Longest first: the entries that still have a window at step t are then the first so many.
        order = sorted((i for i, count in enumerate(counts) if count), key=lambda i: -counts[i])
        results = [np.empty(0, np.float32)] * len(pending)
        if order:
            chosen = [pending[i][1] for i in order]
            rows = np.array([pending[i][0] for i in order])
            with np.errstate(over="ignore"):
                scores = self._advance(rows, chosen, [counts[i] for i in order])
            for i, probabilities in zip(order, scores, strict=True):
                results[i] = probabilities
        return results

    def _advance(self, rows: NDArray[np.intp], entries: list[Floats], counts: list[int]) -> list[Floats]:
        """Score entries sorted by falling window count, all of it in batches of at most BATCH windows."""
        hidden, cell = self._hidden[rows], self._cell[rows]
        scores = np.empty(sum(counts), np.float32)  # by step, then by entry
        done = 0
        for batch in _batches(counts):
            size = sum(last - first for _, first, last in batch)
            at = 0
            for step, first, last in batch:
                self._fill(self._windows[at : at + last - first], step, rows[first:last], entries[first:last])
                at += last - first
            self._network.encode(self._windows[:size], self._gates[:size])
            at = 0
            for _, first, last in batch:
                upto = at + last - first
                self._network.step(self._gates[at:upto], hidden[first:last], cell[first:last])
                self._outputs[at:upto] = hidden[first:last]
                at = upto
            scores[done : done + size] = self._network.probabilities(self._outputs[:size])
            done += size
        self._hidden[rows], self._cell[rows] = hidden, cell
        self._context[rows] = [samples[-CONTEXT:] for samples in entries]
        return _by_entry(scores, counts)

    def _fill(self, windows: Floats, step: int, rows: NDArray[np.intp], entries: list[Floats]) -> None:
        """Window number `step` of each entry, with the samples before it, into the network's input."""
        if step == 0:
            windows[:, :CONTEXT] = self._context[rows]
            windows[:, CONTEXT : CONTEXT + WINDOW] = [samples[:WINDOW] for samples in entries]
        else:
            start, end = step * WINDOW - CONTEXT, (step + 1) * WINDOW
            for into, samples in zip(windows, entries, strict=True):
                into[: CONTEXT + WINDOW] = samples[start:end]

    def _check(self, row: Row) -> None:
        if row not in self._open:
            raise ValueError(f"row {row} is not open")

    def _whole_windows(self, row: Row, samples: Floats) -> int:
        self._check(row)
        if samples.dtype.char != "f" or samples.ndim != 1 or len(samples) % WINDOW:
            raise ValueError(f"expected float32 [k * {WINDOW}], got {samples.dtype} {list(samples.shape)}")
        return len(samples) // WINDOW

    def _resize(self, capacity: int) -> None:
        kept = min(capacity, self.capacity)
        for name in ("_hidden", "_cell", "_context"):
            old: Floats = getattr(self, name)
            new = np.zeros((capacity, old.shape[1]), np.float32)
            new[:kept] = old[:kept]
            setattr(self, name, new)
        self._free = [row for row in range(capacity) if row not in self._open]  # sorted, so a heap


def _batches(counts: list[int]) -> Iterator[list[tuple[int, int, int]]]:
    """(step, first entry, last entry) spans in order of time, grouped into batches of even size, at most BATCH each."""
    total = sum(counts)
    size = -(-total // -(-total // BATCH))
    batch: list[tuple[int, int, int]] = []
    room, live = size, len(counts)
    for step in range(counts[0]):
        while counts[live - 1] <= step:
            live -= 1
        first = 0
        while first < live:
            last = min(live, first + room)
            batch.append((step, first, last))
            room -= last - first
            first = last
            if not room:
                yield batch
                batch, room = [], size
    if batch:
        yield batch


def _by_entry(scores: Floats, counts: list[int]) -> list[Floats]:
    """Scores laid out by step, then by entry (falling counts), cut into one array per entry."""
    if counts[0] == 1:
        return list(scores.reshape(-1, 1))
    live = np.searchsorted(-np.array(counts), -np.arange(counts[0]), side="left")  # entries with a window at each step
    starts = np.concatenate([[0], np.cumsum(live)[:-1]])
    return [scores[starts[:count] + entry] for entry, count in enumerate(counts)]
