"""The only conductor of the speech scorer: windows of all sessions, batch by batch, off the loop's thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from streamer.runtime.clock import Clock, LoopClock, Timer
from streamer.telemetry.observer import Observer, Subsystem
from streamer.vad.blas import one_blas_thread
from streamer.vad.scorer import Row, SpeechScorer

Floats = NDArray[np.float32]
Deliver = Callable[[Floats], None]

_NOTHING: Floats = np.empty(0, np.float32)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoringPolicy:
    """How batches are formed. A batch runs as soon as the thread is free, unless there is a crowd to wait for."""

    crowd: int = 8
    """With more open rows than this, windows wait for company: a batch of 64 costs a sixth per window of one alone."""
    max_wait_s: float = 0.010
    """In a crowd, the least time from the start of one batch to the start of the next."""
    max_entry_windows: int = 32
    """Windows of one row in a batch; a recording sent at once cannot hold up the others."""
    max_batch_windows: int = 512
    """Windows in a batch, shared evenly (some 8 ms of work); each waiting row gets at least one."""


@dataclass(frozen=True, slots=True)
class ScoringStats:
    """What the service has done so far, and what waits."""

    rows: int
    waiting: int
    """Rows with windows that are not in a batch yet."""
    batches: int
    windows: int
    busy_seconds: float
    """Time the thread spent on batches."""
    last_batch: int
    """Windows in the batch that ended last."""


@dataclass(slots=True)
class _Stream:
    """One open row: the request that is outstanding on it, if any."""

    deliver: Deliver | None = None
    samples: Floats = field(default_factory=lambda: _NOTHING)
    """What has not been sent to the thread."""
    scores: list[Floats] = field(default_factory=list)
    fresh: bool = False
    """The next request starts from zero state."""


@dataclass(slots=True)
class _Batch:
    """What the thread does in one go. Closed rows have no entry."""

    opened: list[Row] = field(default_factory=list)
    reset: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    entries: list[tuple[Row, Floats]] = field(default_factory=list)


class ScoringService:
    """Scores windows of many rows in batches on one thread of its own. All methods belong to the event loop.

    The scorer is touched by the thread alone: opening, closing and resetting travel with the next batch, under row
    numbers of the service's own that are never used twice. So a row may be closed while its windows are being scored.
    An error in the scorer is a fault of the program: the service then refuses everything, `failed` says why, and
    `on_failure` is called once.
    """

    def __init__(
        self,
        scorer: SpeechScorer,
        *,
        policy: ScoringPolicy | None = None,
        clock: Clock | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._scorer = scorer
        self._window = scorer.window
        self._policy = policy or ScoringPolicy()
        self._clock = clock or LoopClock()
        self.on_failure = on_failure
        self._observer = observer or Observer()
        self._numbers = count()
        self._streams: dict[Row, _Stream] = {}
        self._ready: dict[Row, _Stream] = {}  # in order of waiting
        self._next = _Batch()
        self._running = False  # a batch is with the thread
        self._timer: Timer | None = None
        self._last_start = float("-inf")
        self._inbox: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._ended = asyncio.Event()
        self._batches = self._windows = self._last_batch = 0
        self._busy_seconds = 0.0
        self.failed: BaseException | None = None
        """Why nothing is scored any more."""

    @property
    def stats(self) -> ScoringStats:
        return ScoringStats(
            len(self._streams), len(self._ready), self._batches, self._windows, self._busy_seconds, self._last_batch
        )

    async def start(self) -> None:
        """Start the thread, once. While it lives, numpy's products use one BLAS thread in this process."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(loop,), name="speech-scorer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the batch it has; what waits is not answered. Idempotent."""
        if self._thread is None:
            return
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        self._inbox.put(None)
        await self._ended.wait()
        self._thread.join()
        self._thread = None

    def open(self) -> Row:
        """A row with zero state, for one channel of one session."""
        self._check_alive()
        row = next(self._numbers)
        self._streams[row] = _Stream()
        self._next.opened.append(row)
        return row

    def close(self, row: Row) -> None:
        """Let a row go. A request that is outstanding on it is not answered."""
        del self._streams[row]
        self._ready.pop(row, None)
        self._next.closed.append(row)
        self._schedule()

    def reset(self, row: Row) -> None:
        """Another stream begins on this row: its next request starts from zero state."""
        self._streams[row].fresh = True

    def submit(self, row: Row, samples: Floats, deliver: Deliver) -> None:
        """Score whole windows, float32 [k * window], k > 0; `deliver` gets the probabilities [k] in a later loop turn.

        Never blocks. One request per row may be outstanding. Raises RuntimeError when the service is not running.
        """
        self._check_alive()
        stream = self._streams[row]
        if stream.deliver is not None:
            raise RuntimeError(f"row {row} has a request outstanding")
        if samples.dtype.char != "f" or samples.ndim != 1 or not samples.size or samples.size % self._window:
            shape = f"float32 [k * {self._window}], k > 0"
            raise ValueError(f"expected {shape}, got {samples.dtype} {list(samples.shape)}")
        stream.deliver, stream.samples = deliver, samples
        if stream.fresh:
            stream.fresh = False
            self._next.reset.append(row)
        self._ready[row] = stream
        self._schedule()

    def _check_alive(self) -> None:
        if self.failed is not None:
            raise RuntimeError("speech scoring has failed") from self.failed
        if self._thread is None or self._stopping:
            raise RuntimeError("speech scoring is not running")

    def _schedule(self) -> None:
        """See that a batch will start: on the loop's next turn, or in a crowd `max_wait_s` after the last one did."""
        if self._running or self._timer is not None or self._stopping:
            return
        crowded = len(self._streams) > self._policy.crowd
        when = self._last_start + self._policy.max_wait_s if crowded else 0.0
        self._timer = self._clock.call_at(max(when, self._clock.now()), self._dispatch)

    def _dispatch(self) -> None:
        """Give the thread everything that waits."""
        self._timer = None
        batch, self._next = self._next, _Batch()
        policy, window = self._policy, self._window
        share = policy.max_batch_windows // max(1, len(self._ready))
        size = window * max(1, min(share, policy.max_entry_windows))
        waiting, self._ready = self._ready, {}
        for row, stream in waiting.items():
            samples, stream.samples = stream.samples, _NOTHING
            if samples.size > size:
                samples, stream.samples = samples[:size], samples[size:]
                self._ready[row] = stream
            batch.entries.append((row, samples))
        self._running = True
        self._last_start = self._clock.now()
        self._inbox.put(batch)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread: batch after batch until there is None."""
        rows: dict[Row, Row] = {}  # our numbers -> the scorer's
        try:
            with one_blas_thread():
                while (batch := self._inbox.get()) is not None:
                    started = time.perf_counter()
                    scores = self._run(batch, rows)
                    loop.call_soon_threadsafe(self._finished, batch, scores, time.perf_counter() - started)
        except Exception as error:  # noqa: BLE001 (carried to the loop, where it fails the service)
            loop.call_soon_threadsafe(self._fail, error)
        finally:
            loop.call_soon_threadsafe(self._ended.set)

    def _run(self, batch: _Batch, rows: dict[Row, Row]) -> list[Floats]:
        for row in batch.opened:
            rows[row] = self._scorer.open()
        for row in batch.closed:
            self._scorer.close(rows.pop(row))
        for row in batch.reset:
            if row in rows:  # it may have been closed since
                self._scorer.reset(rows[row])
        return self._scorer.score([(rows[row], samples) for row, samples in batch.entries])

    def _finished(self, batch: _Batch, scores: list[Floats], seconds: float) -> None:
        """A batch is back on the loop: deliver what is complete, then see to the next."""
        self._running = False
        self._busy_seconds += seconds
        if scores:
            self._batches += 1
            self._last_batch = sum(map(len, scores))
            self._windows += self._last_batch
            self._observer.scored(self._last_batch * self._scorer.window / self._scorer.sample_rate, seconds)
        for (row, _), probabilities in zip(batch.entries, scores, strict=True):
            stream = self._streams.get(row)
            if stream is None:
                continue
            if row in self._ready:
                stream.scores.append(probabilities)
            else:
                self._answer(stream, probabilities)
        if self._ready or self._next.closed:
            self._schedule()

    def _answer(self, stream: _Stream, last: Floats) -> None:
        deliver, stream.deliver = stream.deliver, None
        assert deliver is not None
        if stream.scores:
            last = np.concatenate((*stream.scores, last))
            stream.scores.clear()
        try:
            deliver(last)
        except Exception as error:  # one receiver's fault must not keep the others' answers back
            log.exception("a receiver of speech scores failed")
            self._observer.broken(Subsystem.AUDIO_DECODING, error)

    def _fail(self, error: BaseException) -> None:
        self.failed = error
        self._ready.clear()
        log.critical("speech scoring failed; nothing is scored any more", exc_info=error)
        self._observer.broken(Subsystem.AUDIO_DECODING, error)
        if self.on_failure is not None:
            self.on_failure(error)
