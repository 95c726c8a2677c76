"""Helpers for models that answer with audio: pieces that meet without a click. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamer.errors import BadRequest

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Crossfade:
    """Joins two pieces of audio that cover the same `ms` milliseconds where they meet.

    The weights of the two add up to 1 (a raised cosine), so pieces that agree in the overlap are not changed.
    """

    ms: float
    sample_rate: int = 16_000
    samples: int = field(init=False)
    """Samples of the overlap."""
    _weights: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raise BadRequest for an overlap or a rate that is not above 0."""
        if not self.ms > 0:
            raise BadRequest(field="ms", expected="a number above 0", got=self.ms)
        if self.sample_rate <= 0:
            raise BadRequest(field="sample_rate", expected="a number above 0", got=self.sample_rate)
        samples = max(1, round(self.ms * self.sample_rate / 1000))
        phase = (np.arange(samples, dtype=np.float64) + 0.5) / samples
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "_weights", np.sin(phase * np.pi / 2).astype(np.float32) ** 2)

    def join(self, end: Floats, piece: Floats) -> Floats:
        """Return `piece` with its beginning faded in from `end`, the last samples of the previous piece.

        Arrays are [n] or [channels, n]. `end` covers the same audio as the beginning of `piece`; if it is shorter than
        the overlap, the fade is shorter too. An empty `end` changes nothing.
        """
        shared = min(end.shape[-1], piece.shape[-1], self.samples)
        if not shared:
            return piece
        weights = self._weights if shared == self.samples else _fade(shared)
        before = end[..., end.shape[-1] - shared :]
        joined = piece.copy()
        joined[..., :shared] = before + weights * (piece[..., :shared] - before)
        return joined


def _fade(samples: int) -> Floats:
    phase = (np.arange(samples, dtype=np.float64) + 0.5) / samples
    return (np.sin(phase * np.pi / 2) ** 2).astype(np.float32)


class OverlapAdd:
    """Processes a stream in overlapping windows and adds the results up (weighted overlap-add).

    `window`: weights [n] of one frame, used before and after the processing. `hop`: samples from one frame to the next.
    The sum of the squared windows is divided out, so a process that changes nothing returns its input, `latency`
    samples later (Crochiere, 1980). One object serves one channel.
    """

    def __init__(self, window: NDArray[np.floating], hop: int) -> None:
        """Prepare a stream of silence. Raises BadRequest for a window or a hop that cannot return its input."""
        size = len(window) if window.ndim == 1 else 0
        if not size:
            raise BadRequest(field="window", expected="weights [n], n > 0", got=f"an array of shape {window.shape}")
        if not 0 < hop <= size:
            raise BadRequest(field="hop", expected=f"an integer from 1 to {size}", got=hop)
        squares = np.zeros(-(-size // hop) * hop)
        squares[:size] = window.astype(np.float64) ** 2
        sums = squares.reshape(-1, hop).sum(axis=0)
        if sums.min() <= 1e-6 * sums.max():
            raise BadRequest(field="window", expected="weights above 0 at every sample of a hop", got="a gap")
        self.hop = hop
        self.latency = size
        """Samples by which the output is later than the input."""
        self._window = window.astype(np.float32)
        self._after = (self._window / np.resize(sums, size)).astype(np.float32)
        self._input = np.zeros(size - hop, np.float32)
        self._sum = np.zeros(size, np.float32)
        self._ready = np.zeros(hop, np.float32)

    def push(self, samples: Floats, process: Callable[[Floats], Floats]) -> Floats:
        """Take samples [n]; return as many, [n]. `process` gets each windowed frame, and returns it processed."""
        size, hop = len(self._window), self.hop
        pending = np.concatenate((self._input, samples.astype(np.float32, copy=False)))
        ready = [self._ready]
        at = 0
        while len(pending) - at >= size:
            self._sum += self._after * process(self._window * pending[at : at + size])
            ready.append(self._sum[:hop].copy())
            self._sum = np.concatenate((self._sum[hop:], np.zeros(hop, np.float32)))
            at += hop
        self._input = pending[at:]
        whole = np.concatenate(ready)
        self._ready = whole[len(samples) :]
        return whole[: len(samples)]
