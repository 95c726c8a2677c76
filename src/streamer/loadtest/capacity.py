"""The search for the most streams within a goal. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.errors import ConfigError
from streamer.loadtest.results import Distribution, LoadStep

TOLERANCE = 0.05
"""The search ends when the passed and the failed number of streams differ by this share."""
_GOAL = re.compile(r"(p50|p90|p95|p99|max)_(first|interim|final_whole|final|lag|audio)_ms=([0-9]*\.?[0-9]+)")


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit of a latency percentile; also, no frame may be lost."""

    percentile: str
    measure: str
    limit_ms: float

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Parse `p99_final_ms=250`. Raises ConfigError."""
        match = _GOAL.fullmatch(text.replace(" ", ""))
        if match is None or float(match[3]) <= 0:
            expected = (
                "p50|p90|p95|p99|max _ first|interim|final|final_whole|lag|audio _ms=NUMBER, such as p99_final_ms=250"
            )
            raise ConfigError(field="--slo", expected=expected, got=text)
        return cls(match[1], match[2], float(match[3]))

    def __str__(self) -> str:
        return f"{self.percentile}_{self.measure}_ms={self.limit_ms:g}"

    def violation(self, step: LoadStep) -> str:
        """Return why a step misses the goal; empty if it meets it.

        A late generator sent less load than stated, so its step proves nothing and fails.
        """
        if step.opened < step.streams:
            return f"{step.streams - step.opened} streams were refused"
        if not step.frames.is_clean:
            return f"{step.frames.lost} frames lost, {step.frames.unfinished_streams} streams unfinished"
        if step.load.was_late:
            return f"the load generator was late (p99 {step.load.late.p99_ms:.0f} ms): the server was not measured"
        distribution: Distribution = getattr(step, self.measure)
        if not distribution.count:
            return f"no result to measure {self.measure} on"
        value: float = getattr(distribution, f"{self.percentile}_ms")
        return f"{self.percentile} {self.measure} {value:.0f} ms" if value > self.limit_ms else ""


class Search:
    """Doubles until a number fails, then halves the gap. A failure counts when it happens twice.

    `next` is the number to try, None at the end; `record` takes its outcome.
    """

    def __init__(self, first: int, limit: int) -> None:
        self._limit = limit
        self._next: int | None = min(first, limit)
        self._suspect = False
        self.max_passed = 0
        self.min_failed: int | None = None

    @property
    def next(self) -> int | None:
        return self._next

    def record(self, passed: bool) -> None:
        """Record the outcome of `next`."""
        assert self._next is not None
        if passed:
            self.max_passed = self._next
        elif not self._suspect:
            self._suspect = True  # it may be noise of another process
            return
        else:
            self.min_failed = self._next
        self._suspect = False
        self._next = self._choose()

    def _choose(self) -> int | None:
        if self.min_failed is None:
            return None if self.max_passed == self._limit else min(2 * self.max_passed, self._limit)
        gap = self.min_failed - self.max_passed
        if gap <= max(1, TOLERANCE * self.max_passed):
            return None
        return self.max_passed + gap // 2
