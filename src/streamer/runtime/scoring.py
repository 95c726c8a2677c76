"""The speech scoring service: scores windows of all sessions in batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from streamer.audio.coding import Coding, Pcm, Samples, split, windows_of
from streamer.clock import Clock, LoopClock, Timer
from streamer.runtime.places import Errand, OnTheLoop, Place
from streamer.telemetry.observer import Observer, Subsystem
from streamer.vad.scorer import Row, SpeechScorer

Floats = NDArray[np.float32]
Deliver = Callable[[Sequence[float]], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """Policy of batching. A batch starts when the previous one is done.

    With many open rows it also waits for more windows, unless it is full.
    """

    crowd: int = 8
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
    waiting: int
    """Rows with windows that are not in a batch yet."""
    batches: int
    windows: int
    busy_seconds: float
    """Time spent on batches in seconds."""
    last_batch: int
    """Windows in the last finished batch."""


@dataclass(slots=True)
class _Stream:
    """One open row."""

    deliver: Deliver
    samples: Samples | None = None
    """Audio that is not in a batch yet."""
    coding: Coding | None = None
    """Encoding of `samples`; None if decoded."""
    count: int = 0
    """Windows in `samples`."""
    scores: list[float] = field(default_factory=list)
    """Scores of earlier windows of a request that is not complete yet."""
    outstanding: bool = False
    fresh: bool = False
    """The next request starts from zero state."""


@dataclass(slots=True)
class _Windows:
    """Windows of several rows with the same encoding, which are decoded and resampled together."""

    rows: list[Row] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    data: list[Samples] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """Work of one call of the scorer. Closed rows have no windows in it."""

    opened: list[Row] = field(default_factory=list)
    reset: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    windows: dict[Coding | None, _Windows] = field(default_factory=dict)
    """Windows by encoding; None for decoded ones."""


Scores = list[list[float]]
"""Scores of each of a batch's `windows`."""


class ScoringService:
    """Scores windows of many rows in batches, in an executor (`place`). Call its methods on the event loop.

    Only the executor uses the scorer: opening, closing and resetting are part of the next batch. The service has its
    own row numbers, which are never reused, so a row may be closed while its windows are being scored. An error of the
    scorer is a bug: the service then refuses all calls, `failed` has the error, and `on_failure` is called once.
    """

    def __init__(
        self,
        scorer: SpeechScorer,
        *,
        place: Place[Batch, Scores] | None = None,
        policy: ScoringPolicy | None = None,
        clock: Clock | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._scorer = scorer
        self._window = scorer.window
        self._place = place or OnTheLoop()
        self._policy = policy or ScoringPolicy()
        self._clock = clock or LoopClock()
        self.on_failure = on_failure
        self._observer = observer or Observer()
        self._numbers = count()
        self._streams: dict[Row, _Stream] = {}
        self._window_bytes: dict[Coding, int] = {}
        self._ready: dict[Row, _Stream] = {}  # in the order of arrival
        self._waiting = 0  # their windows
        self._next = Batch()
        self._rows: dict[Row, Row] = {}  # service row -> scorer row
        self._running = False
        self._busy = False  # a batch is being scored
        self._timer: Timer | None = None
        self._full = False  # the timer is due in this iteration
        self._last_start = float("-inf")
        self._batches = self._windows = self._last_batch = 0
        self._busy_seconds = 0.0
        self.failed: BaseException | None = None
        """Error after which nothing is scored."""

    @property
    def stats(self) -> ScoringStats:
        return ScoringStats(
            len(self._streams), len(self._ready), self._batches, self._windows, self._busy_seconds, self._last_batch
        )

    async def start(self) -> None:
        """Start the service, once. Until `stop`, numpy uses one BLAS thread in this process."""
        self._place.open(Errand(self._run, self._finished, self._fail))
        self._running = True

    async def stop(self) -> None:
        """Stop after the current batch; pending requests are not answered. Idempotent."""
        if not self._running:
            return
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        await self._place.close()

    def open(self, deliver: Deliver) -> Row:
        """Open a row with zero state, for one channel of one session.

        `deliver` gets the speech probabilities of submitted windows, one per window, in a later iteration of the loop.
        """
        self._check_alive()
        row = next(self._numbers)
        self._streams[row] = _Stream(deliver)
        self._next.opened.append(row)
        return row

    def close(self, row: Row) -> None:
        """Close a row. A pending request is not answered."""
        stream = self._streams.pop(row)
        if self._ready.pop(row, None) is not None:
            self._waiting -= stream.count
        self._next.closed.append(row)
        self._schedule()

    def reset(self, row: Row) -> None:
        """Reset a row: its next request starts from zero state, for another stream."""
        self._streams[row].fresh = True

    def submit(self, row: Row, samples: Samples) -> None:
        """Score whole windows: k * window samples, k > 0, encoded or float32 [k * window].

        Never blocks. One request per row may be pending. Raises RuntimeError if the service is not running.
        """
        if not self._running or self.failed is not None:
            self._check_alive()
        stream = self._streams[row]
        if stream.outstanding:
            raise RuntimeError(f"row {row} has a request outstanding")
        if type(samples) is Pcm:
            coding: Coding | None = samples.coding
            size = self._window_bytes.get(samples.coding) or self._size(samples.coding)
            count, rest = divmod(len(samples.data) - samples.coding.around, size)
        else:
            assert isinstance(samples, np.ndarray)
            coding = None
            count, rest = divmod(samples.size, self._window)
            rest += samples.dtype.char != "f" or samples.ndim != 1
        if rest or count < 1:
            raise ValueError(
                f"expected whole windows of {self._window} samples, encoded or float32, got {samples!r:.99}"
            )
        stream.outstanding, stream.coding, stream.samples, stream.count = True, coding, samples, count
        if stream.fresh:
            stream.fresh = False
            self._next.reset.append(row)
        self._ready[row] = stream
        self._waiting += count
        if self._busy:
            return
        if self._timer is None or (not self._full and self._waiting >= self._policy.max_batch_windows):
            self._schedule()

    def _check_alive(self) -> None:
        if self.failed is not None:
            raise RuntimeError("speech scoring has failed") from self.failed
        if not self._running:
            raise RuntimeError("speech scoring is not running")

    def _schedule(self) -> None:
        """Schedule the next batch: at once if it is full; with many rows `max_wait_s` after the last one."""
        if self._busy or not self._running:
            return
        self._full = self._waiting >= self._policy.max_batch_windows
        if self._timer is not None:
            if not self._full:
                return
            self._timer.cancel()
        waits = not self._full and len(self._streams) > self._policy.crowd
        when = self._last_start + self._policy.max_wait_s if waits else 0.0
        self._timer = self._clock.call_at(max(when, self._clock.now()), self._dispatch)

    def _dispatch(self) -> None:
        """Start a batch with the pending windows that fit. Rows that did not fit come first in the next one."""
        self._timer, self._full = None, False
        batch, self._next = self._next, Batch()
        policy, waiting = self._policy, self._ready
        room = policy.max_batch_windows
        most = min(max(room // max(1, len(waiting)), policy.live_windows), policy.max_entry_windows)
        more: dict[Row, _Stream] = {}
        turns = 0
        for row, stream in waiting.items():
            if not room:
                break
            turns += 1
            samples, stream.samples = stream.samples, None
            assert samples is not None
            same = batch.windows.get(stream.coding)
            if same is None:
                same = batch.windows[stream.coding] = _Windows()
            count = stream.count
            if count > (now := min(most, room)):
                stream.count, count = count - now, now
                samples, stream.samples = split(samples, now * self._window)
                more[row] = stream
            room -= count
            same.rows.append(row)
            same.counts.append(count)
            same.data.append(samples)
        self._ready = dict(islice(waiting.items(), turns, None)) | more
        self._waiting -= policy.max_batch_windows - room
        self._busy = True
        self._last_start = self._clock.now()
        self._place.give(batch)

    def _run(self, batch: Batch) -> Scores:
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

    def _finished(self, batch: Batch, scores: Scores, seconds: float) -> None:
        """Deliver the scores of complete requests, then schedule the next batch. Runs on the loop."""
        self._busy = False
        self._busy_seconds += seconds
        if count := sum(map(len, scores)):
            self._batches += 1
            self._last_batch = count
            self._windows += count
            self._observer.scored(count * self._window / self._scorer.sample_rate, seconds)
        for same, told in zip(batch.windows.values(), scores, strict=True):
            at, counts = 0, same.counts
            for index, row in enumerate(same.rows):
                first, at = at, at + counts[index]
                stream = self._streams.get(row)
                if stream is None:
                    continue
                heard = told[first:at]
                if stream.samples is not None:
                    stream.scores += heard
                    continue
                if stream.scores:
                    heard, stream.scores = stream.scores + heard, []
                stream.outstanding = False
                try:
                    stream.deliver(heard)
                except Exception as error:  # an error of one receiver must not affect the others
                    log.exception("a receiver of speech scores failed")
                    self._observer.broken(Subsystem.AUDIO_DECODING, error)
        if self._ready or self._next.closed:
            self._schedule()

    def _fail(self, error: BaseException) -> None:
        self.failed = error
        self._ready.clear()
        self._waiting = 0
        log.critical("speech scoring failed: no audio is scored from now on", exc_info=error)
        self._observer.broken(Subsystem.AUDIO_DECODING, error)
        if self.on_failure is not None:
            self.on_failure(error)

    def _size(self, coding: Coding) -> int:
        """Return the bytes of a window."""
        size = self._window_bytes[coding] = coding.size(self._window)
        return size
