"""The speech scoring service: scores windows of all sessions in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples, DeferredDecoder, Pcm, split, windows_of
from streamer.clock import Clock, LoopClock, Timer
from streamer.connection.executors import BatchExecutor, BatchTask, InlineExecutor
from streamer.telemetry.observer import Observer, Subsystem
from streamer.vad.scorer import Row, SpeechScorer

Floats = NDArray[np.float32]
DeliverScores = Callable[[Sequence[float]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """Policy of batching. A batch starts when the previous one is done.

    With many open rows it also waits for more windows, unless it is full.
    """

    max_unbatched_rows: int = 8
    """Open rows above which windows wait for others: in a batch of 64, a window costs a sixth of a single one."""
    max_wait_s: float = 0.010
    """With many rows, the shortest time in seconds between the starts of two batches."""
    max_entry_windows: int = 32
    """Windows of one row in a batch, so that a recording sent at once cannot delay others."""
    max_batch_windows: int = 128
    """Windows in a batch: one pass of the network, some 2 ms of work. One more would need another pass."""
    live_windows: int = 4
    """Windows of one row that stay together if there is space: a message of 100 ms. Longer requests get an even share.
    """


@dataclass(frozen=True, slots=True)
class ScoringStats:
    """State of the service."""

    rows: int
    pending_rows: int
    """Rows with windows that are not in a batch yet."""
    batches: int
    windows: int
    busy_seconds: float
    """Time spent on batches in seconds."""
    last_batch: int
    """Windows in the last finished batch."""


@dataclass(slots=True)
class _ScoringRow:
    """One open row."""

    deliver: DeliverScores
    samples: AudioSamples | None = None
    """Audio that is not in a batch yet."""
    coding: DeferredDecoder | None = None
    """Encoding of `samples`; None if decoded."""
    count: int = 0
    """Windows in `samples`."""
    scores: list[float] = field(default_factory=list)
    """Scores of earlier windows of a request that is not complete yet."""
    outstanding: bool = False
    fresh: bool = False
    """The next request starts from zero state."""


@dataclass(slots=True)
class _EncodedWindows:
    """Windows of several rows with the same encoding, which are decoded and resampled together."""

    rows: list[Row] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    data: list[AudioSamples] = field(default_factory=list)


@dataclass(slots=True)
class ScoreBatch:
    """Work of one call of the scorer. Closed rows have no windows in it."""

    opened: list[Row] = field(default_factory=list)
    reset: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    windows: dict[DeferredDecoder | None, _EncodedWindows] = field(default_factory=dict)
    """Windows by encoding; None for decoded ones."""


Scores = list[list[float]]
"""Scores of each of a batch's `windows`."""


class ScoringService:
    """Scores windows of many rows in batches, in an executor (`executor`). Call its methods on the event loop.

    Only the executor uses the scorer: opening, closing and resetting are part of the next batch. The service has its
    own row numbers, which are never reused, so a row may be closed while its windows are being scored. An error of the
    scorer is a bug: the service then refuses all calls, `failed` has the error, and `on_failure` is called once.
    """

    def __init__(
        self,
        scorer: SpeechScorer,
        *,
        executor: BatchExecutor[ScoreBatch, Scores] | None = None,
        policy: ScoringPolicy | None = None,
        clock: Clock | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._scorer = scorer
        self._window = scorer.window
        self._executor = executor or InlineExecutor()
        self._policy = policy or ScoringPolicy()
        self._clock = clock or LoopClock()
        self.on_failure = on_failure
        self._observer = observer or Observer()
        self._row_numbers = count()
        self._streams: dict[Row, _ScoringRow] = {}
        self._window_bytes: dict[DeferredDecoder, int] = {}
        self._pending_rows: dict[Row, _ScoringRow] = {}  # in the order of arrival
        self._pending_windows = 0  # their windows
        self._next_batch = ScoreBatch()
        self._rows: dict[Row, Row] = {}  # service row -> scorer row
        self._running = False
        self._is_scoring = False  # a batch is being scored
        self._timer: Timer | None = None
        self._is_due_now = False  # the timer is due in this iteration
        self._last_start = float("-inf")
        self._batches = self._windows = self._last_batch = 0
        self._busy_seconds = 0.0
        self.failure: BaseException | None = None
        """Error after which nothing is scored."""

    @property
    def stats(self) -> ScoringStats:
        return ScoringStats(
            len(self._streams),
            len(self._pending_rows),
            self._batches,
            self._windows,
            self._busy_seconds,
            self._last_batch,
        )

    async def start(self) -> None:
        """Start the service, once. Until `stop`, numpy uses one BLAS thread in this process."""
        self._executor.open(BatchTask(self._score_batch, self._on_batch_done, self._on_failure))
        self._running = True

    async def stop(self) -> None:
        """Stop after the current batch; pending requests are not answered. Idempotent."""
        if not self._running:
            return
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._executor.close()

    def open(self, deliver: DeliverScores) -> Row:
        """Open a row with zero state, for one channel of one session.

        `deliver` gets the speech probabilities of submitted windows, one per window, in a later iteration of the loop.
        """
        self._check_alive()
        row = next(self._row_numbers)
        self._streams[row] = _ScoringRow(deliver)
        self._next_batch.opened.append(row)
        return row

    def close(self, row: Row) -> None:
        """Close a row. A pending request is not answered."""
        stream = self._streams.pop(row)
        if self._pending_rows.pop(row, None) is not None:
            self._pending_windows -= stream.count
        self._next_batch.closed.append(row)
        self._schedule()

    def reset(self, row: Row) -> None:
        """Reset a row: its next request starts from zero state, for another stream."""
        self._streams[row].fresh = True

    def submit(self, row: Row, samples: AudioSamples) -> None:
        """Score whole windows: k * window samples, k > 0, encoded or float32 [k * window].

        Never blocks. One request per row may be pending. Raises RuntimeError if the service is not running.
        """
        if not self._running or self.failure is not None:
            self._check_alive()
        stream = self._streams[row]
        if stream.outstanding:
            raise RuntimeError(f"row {row} has a request outstanding")
        if type(samples) is Pcm:
            decoder: DeferredDecoder | None = samples.decoder
            size = self._window_bytes.get(samples.decoder) or self._bytes_per_window(samples.decoder)
            count, rest = divmod(len(samples.data) - samples.decoder.context_bytes, size)
        else:
            assert isinstance(samples, np.ndarray)
            decoder = None
            count, rest = divmod(samples.size, self._window)
            rest += samples.dtype.char != "f" or samples.ndim != 1
        if rest or count < 1:
            raise ValueError(
                f"expected whole windows of {self._window} samples, encoded or float32, got {samples!r:.99}"
            )
        stream.outstanding, stream.coding, stream.samples, stream.count = True, decoder, samples, count
        if stream.fresh:
            stream.fresh = False
            self._next_batch.reset.append(row)
        self._pending_rows[row] = stream
        self._pending_windows += count
        if self._is_scoring:
            return
        if self._timer is None or (not self._is_due_now and self._pending_windows >= self._policy.max_batch_windows):
            self._schedule()

    def _check_alive(self) -> None:
        if self.failure is not None:
            raise RuntimeError("speech scoring has failed") from self.failure
        if not self._running:
            raise RuntimeError("speech scoring is not running")

    def _schedule(self) -> None:
        """Schedule the next batch: at once if it is full; with many rows `max_wait_s` after the last one."""
        if self._is_scoring or not self._running:
            return
        self._is_due_now = self._pending_windows >= self._policy.max_batch_windows
        if self._timer is not None:
            if not self._is_due_now:
                return
            self._timer.cancel()
        waits = not self._is_due_now and len(self._streams) > self._policy.max_unbatched_rows
        when = self._last_start + self._policy.max_wait_s if waits else 0.0
        self._timer = self._clock.call_at(max(when, self._clock.now()), self._dispatch)

    def _dispatch(self) -> None:
        """Start a batch with the pending windows that fit. Rows that did not fit come first in the next one."""
        self._timer, self._is_due_now = None, False
        batch, self._next_batch = self._next_batch, ScoreBatch()
        policy, waiting = self._policy, self._pending_rows
        remaining_windows = policy.max_batch_windows
        max_windows = min(max(remaining_windows // max(1, len(waiting)), policy.live_windows), policy.max_entry_windows)
        more: dict[Row, _ScoringRow] = {}
        served_rows = 0
        for row, stream in waiting.items():
            if not remaining_windows:
                break
            served_rows += 1
            samples, stream.samples = stream.samples, None
            assert samples is not None
            same = batch.windows.get(stream.coding)
            if same is None:
                same = batch.windows[stream.coding] = _EncodedWindows()
            count = stream.count
            if count > (now := min(max_windows, remaining_windows)):
                stream.count, count = count - now, now
                samples, stream.samples = split(samples, now * self._window)
                more[row] = stream
            remaining_windows -= count
            same.rows.append(row)
            same.counts.append(count)
            same.data.append(samples)
        self._pending_rows = dict(islice(waiting.items(), served_rows, None)) | more
        self._pending_windows -= policy.max_batch_windows - remaining_windows
        self._is_scoring = True
        self._last_start = self._clock.now()
        self._executor.submit(batch)

    def _score_batch(self, batch: ScoreBatch) -> Scores:
        """Return the scores of each of the batch's `windows`. Runs in the executor."""
        scorer, rows = self._scorer, self._rows
        for row in batch.opened:
            rows[row] = scorer.open()
        for row in batch.closed:
            scorer.close(rows.pop(row))
        for row in batch.reset:
            if row in rows:  # it may have been closed meanwhile
                scorer.reset(rows[row])
        scores: Scores = []
        for same in batch.windows.values():
            windows = windows_of(same.data, self._window)
            scores.append(scorer.score_windows([rows[row] for row in same.rows], same.counts, windows).tolist())
        return scores

    def _on_batch_done(self, batch: ScoreBatch, scores: Scores, seconds: float) -> None:
        """Deliver the scores of complete requests, then schedule the next batch. Runs on the loop."""
        self._is_scoring = False
        self._busy_seconds += seconds
        if count := sum(map(len, scores)):
            self._batches += 1
            self._last_batch = count
            self._windows += count
            self._observer.on_batch_scored(count * self._window / self._scorer.sample_rate, seconds)
        for same, batch_scores in zip(batch.windows.values(), scores, strict=True):
            at, counts = 0, same.counts
            for index, row in enumerate(same.rows):
                first, at = at, at + counts[index]
                stream = self._streams.get(row)
                if stream is None:
                    continue
                row_scores = batch_scores[first:at]
                if stream.samples is not None:
                    stream.scores += row_scores
                    continue
                if stream.scores:
                    row_scores, stream.scores = stream.scores + row_scores, []
                stream.outstanding = False
                try:
                    stream.deliver(row_scores)
                except Exception as error:  # an error of one receiver must not affect the others
                    log.exception("a receiver of speech scores failed")
                    self._observer.unexpected_error(Subsystem.AUDIO_DECODING, error)
        if self._pending_rows or self._next_batch.closed:
            self._schedule()

    def _on_failure(self, error: BaseException) -> None:
        self.failure = error
        self._pending_rows.clear()
        self._pending_windows = 0
        log.critical("speech scoring failed: no audio is scored from now on", exc_info=error)
        self._observer.unexpected_error(Subsystem.AUDIO_DECODING, error)
        if self.on_failure is not None:
            self.on_failure(error)

    def _bytes_per_window(self, decoder: DeferredDecoder) -> int:
        """Return the bytes of a window."""
        size = self._window_bytes[decoder] = decoder.size(self._window)
        return size
