"""A configurable model that counts samples, for trials, load tests and fault tests."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import Any

from streamer.errors import ConfigError, ModelFailed
from streamer.models.contract import AudioSegment, Model


class Stub(Model):
    """Returns `{"count": samples}` after a blocking sleep; fails with the configured probability.

    A call lasts `max(0, seconds * constant_factor + delay + jitter * U(-1, 1))`, where `seconds` is the audio of the
    longest segment of its batch. The first call of a worker lasts `1 + warmup_penalty` times as long (the engine's call
    on silence pays for that, before the server is ready).

    `delay`, `jitter`: seconds, at least 0. `constant_factor`: seconds per second of audio. `failure_rate`: probability
    that a segment gets the error "Unexpected inference failure". `panic_rate`: probability that a segment ends its call
    with an uncaught error: the client receives "Internal server error", code `model_error`, and the worker continues.
    The engine's own calls (no session) never fail. `seed` makes the draws repeatable. All zero by default.
    """

    name = "stub"
    max_inflight = 16

    def __init__(
        self,
        delay: float = 0.0,
        constant_factor: float = 0.0,
        jitter: float = 0.0,
        failure_rate: float = 0.0,
        panic_rate: float = 0.0,
        warmup_penalty: float = 0.0,
        seed: int | None = None,
    ) -> None:
        self.delay = _at_least_zero("delay", delay)
        self.constant_factor = _at_least_zero("constant_factor", constant_factor)
        self.jitter = _at_least_zero("jitter", jitter)
        self.failure_rate = _check_probability("failure_rate", failure_rate)
        self.panic_rate = _check_probability("panic_rate", panic_rate)
        self.warmup_penalty = _at_least_zero("warmup_penalty", warmup_penalty)
        self.pause = time.sleep  # tests replace it
        self._random = random.Random(seed)  # noqa: S311 (chance, not secrecy)
        self._cold = True

    def infer(self, batch: Sequence[AudioSegment]) -> Sequence[Any]:
        duration = self.duration(max(item.seconds for item in batch))
        if self._cold:
            self._cold = False
            duration *= 1 + self.warmup_penalty
        if duration > 0:
            self.pause(duration)
        if any(item.session_id and self._random.random() < self.panic_rate for item in batch):
            raise RuntimeError("Unexpected panic")
        return [self._answer(item) for item in batch]

    def duration(self, seconds: float) -> float:
        """Return the duration of a warm call on `seconds` of audio, with a new random jitter."""
        wobble = self.jitter * self._random.uniform(-1, 1)
        return max(0.0, seconds * self.constant_factor + self.delay + wobble)

    def _answer(self, item: AudioSegment) -> object:
        if item.session_id and self._random.random() < self.failure_rate:
            return ModelFailed("Unexpected inference failure")
        return {"count": len(item.samples)}


def speedy() -> Stub:
    """Return a stub that answers at once and never fails."""
    return Stub()


def flaky(failure_rate: float = 0.5, panic_rate: float = 0.0, seed: int | None = None) -> Stub:
    """Return a stub that answers at once and often fails."""
    return Stub(failure_rate=failure_rate, panic_rate=panic_rate, seed=seed)


def _at_least_zero(key: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ConfigError(field=f"model.{key}", expected="a number of at least 0", got=value)
    return value


def _check_probability(key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(field=f"model.{key}", expected="a number from 0 to 1", got=value)
    return value
