"""A speech scorer that tells what it was asked, and what the scoring service makes of its answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples
from streamer.connection.scoring import ScoringService
from streamer.vad.scorer import Row

Floats = NDArray[np.float32]
WINDOW = 4


class CountingScorer:
    """Scores a window with its first sample plus the number of windows its row has heard; a batch can be held."""

    sample_rate = 16_000
    window = WINDOW

    def __init__(self) -> None:
        self.heard: dict[Row, int] = {}
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.entered = threading.Semaphore(0)
        self.gate: threading.Semaphore | None = None
        self.emptied = threading.Event()
        self.error: Exception | None = None
        self._next = 100

    def open(self) -> Row:
        self._next += 1
        self.heard[self._next] = 0
        return self._next

    def close(self, row: Row) -> None:
        del self.heard[row]
        if not self.heard:
            self.emptied.set()

    def reset(self, row: Row) -> None:
        self.heard[row] = 0

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        raise NotImplementedError

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        self.threads.add(threading.get_ident())
        self.batches.append(list(counts))
        self.entered.release()
        if self.gate is not None:
            self.gate.acquire()
        if self.error is not None:
            raise self.error
        scores = windows[:, 0].copy()
        at = 0
        for row, count in zip(rows, counts, strict=True):
            scores[at : at + count] += np.arange(self.heard[row], self.heard[row] + count)
            self.heard[row] += count
            at += count
        return scores


def windows(count: int, value: float = 0.0) -> Floats:
    return np.full(count * WINDOW, value, np.float32)


class Answers:
    """What was delivered, by row; `wait` until there are so many."""

    def __init__(self, service: ScoringService) -> None:
        self.service = service
        self.all: list[tuple[Row, list[float]]] = []
        self._more = asyncio.Event()

    def open(self) -> Row:
        row: Row = self.service.open(lambda scores: self._got(row, scores))
        return row

    def submit(self, row: Row, samples: AudioSamples) -> None:
        self.service.submit(row, samples)

    def _got(self, row: Row, scores: Sequence[float]) -> None:
        self.all.append((row, list(scores)))
        self._more.set()

    async def wait(self, count: int) -> list[tuple[Row, list[float]]]:
        while len(self.all) < count:
            self._more.clear()
            await self._more.wait()
        return self.all
