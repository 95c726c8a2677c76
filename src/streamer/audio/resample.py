"""Resampling from the client's rate to the model's: streaming, exact in length, independent of the cuts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.audio.polyphase import GRID_BLOCKS, Polyphase, polyphase

_QUALITY = "HQ"
"""Flat to 0.92 of the band; LQ would halve the delay but lose 8 dB at 0.85. Figures: docs/design/resampling.md."""

_BLOCK_MS = 32
"""Block of input for soxr, a speech window: shorter ones cost calls, and their rests wait for the next."""


class Resampler:
    """Resamples one stream of `channels` channels from `rate_in` to `rate_out` (Hz); the channels never mix.

    After a flush, the total output is `round(total_in * rate_out / rate_in)` samples (half rounds up), for any cuts and
    any number of flushes. soxr gets fixed blocks, so cuts cannot change a bit of the output; a Polyphase needs no
    blocks, because each of its outputs is a separate sum. Equal rates return the input without a copy.
    """

    __slots__ = ("_block", "_pending", "_rate_in", "_rate_out", "_stream", "_total_in", "_total_out")

    def __init__(self, rate_in: int, rate_out: int, channels: int = 1) -> None:
        self._rate_in = rate_in
        self._rate_out = rate_out
        self._block = block_samples(rate_in, rate_out)
        self._pending = np.empty((channels, 0), np.float32)
        self._total_in = 0
        self._total_out = 0
        self._stream = None if rate_in == rate_out else _filter(rate_in, rate_out, channels)

    @property
    def delay(self) -> int:
        """Maximum delay in output samples, of the filter and of the wait for a block. Measured."""
        return 0 if self._stream is None else max_delay(self._rate_in, self._rate_out)

    @property
    def min_delay(self) -> int:
        """Minimum delay in output samples, once audio has arrived."""
        return self._stream.min_delay if self._stream else 0

    @property
    def held_samples(self) -> int:
        """Current delay in output samples: the result of a flush."""
        return self._due() - self._total_out

    def push(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples [channels, n]; return available ones, [channels, m]; m may be 0."""
        self._total_in += x.shape[1]
        if self._stream is None:
            self._total_out = self._total_in
            return x
        if self._block is None:
            return self._emit([self._stream.process(x)])
        if self._pending.shape[1]:
            x = np.concatenate((self._pending, x), axis=1)
        whole = x.shape[1] - x.shape[1] % self._block
        # A copy, so that a short rest does not keep a long message in memory.
        self._pending = x[:, whole:].copy()
        y = [self._stream.process(x[:, at : at + self._block]) for at in range(0, whole, self._block)]
        return self._emit(y)

    def flush(self) -> NDArray[np.float32]:
        """Return all delayed samples, [channels, m], as if silence followed. More may be pushed; positions continue."""
        due = self.held_samples
        if self._stream is None or (due == 0 and not self._pending.shape[1]):
            return np.empty_like(self._pending)
        y = self._stream.finish(self._pending)
        self._pending = self._pending[:, :0].copy()
        return self._emit([y[:, :due]])

    def _due(self) -> int:
        return (2 * self._total_in * self._rate_out + self._rate_in) // (2 * self._rate_in)

    def _emit(self, pieces: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        if not pieces:
            return np.empty((len(self._pending), 0), np.float32)
        y = np.ascontiguousarray(pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1))
        self._total_out += y.shape[1]
        return y


def block_samples(rate_in: int, rate_out: int) -> int | None:
    """Return the samples of a block; None if any number is possible. The only place that decides this."""
    return None if polyphase(rate_in, rate_out) else max(1, rate_in * _BLOCK_MS // 1000)


@lru_cache(maxsize=64)
def max_delay(rate_in: int, rate_out: int) -> int:
    """Return the maximum delay in output samples during a second of audio; soxr's own blocks repeat within it."""
    if whole := polyphase(rate_in, rate_out):
        return max(
            whole.output_count(come) - whole.output_ready(come) for come in range(whole.context_after + 2 * whole.down)
        )
    stream = _filter(rate_in, rate_out, 1)
    block = block_samples(rate_in, rate_out)
    assert block is not None
    silence = np.zeros((1, block), np.float32)
    emitted, worst = 0, 0
    for end in range(block, rate_in + 1, block):
        # The maximum is just before a block is complete.
        worst = max(worst, -(-(end - 1) * rate_out // rate_in) - emitted)
        emitted += stream.process(silence).shape[1]
    return worst


class _Filter(Protocol):
    """Converts one block to the other rate: [channels, n] -> [channels, m]."""

    min_delay: int

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]: ...

    def finish(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Process a last block; return all delayed samples, as if silence followed, or more. More may be processed."""
        ...


class _SoxrFilter:
    """soxr's stream, whose shape is [n, channels].

    It is created with the first audio, because it takes a millisecond.
    """

    min_delay = 0
    """It works in bursts: after one of them it has no delay."""
    __slots__ = ("_shape", "_silence", "_stream")

    def __init__(self, rate_in: int, rate_out: int, channels: int) -> None:
        self._shape = (rate_in, rate_out, channels)
        self._stream: Any = None
        # Longer than one output sample: rounding after several flushes may need one more than soxr's.
        self._silence = (channels, rate_in // rate_out + 2)

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._chunk(x, last=False)

    def finish(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = self._chunk(np.concatenate((x, np.zeros(self._silence, np.float32)), axis=1), last=True)
        self._stream.clear()
        return y

    def _chunk(self, x: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._stream is None:
            from soxr import ResampleStream  # noqa: PLC0415 (0.1 s of import that not every stream needs)

            self._stream = ResampleStream(*self._shape, dtype="float32", quality=_QUALITY)
        y: NDArray[np.float32] = self._stream.resample_chunk(np.ascontiguousarray(x.T), last)
        return y.T


class _PolyphaseFilter:
    """A stream through a Polyphase: its past inputs and its position."""

    __slots__ = ("_at", "_done", "_past", "_polyphase", "min_delay")

    def __init__(self, polyphase: Polyphase, channels: int) -> None:
        self._polyphase = polyphase
        self._past = np.empty((channels, 0), np.float32)
        self._at = self._done = 0  # position of the first past input, number of outputs returned
        self.min_delay = -(-polyphase.context_after // polyphase.down) * polyphase.up

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._until(self._polyphase.output_ready(self._take(x)))

    def finish(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._until(self._polyphase.output_count(self._take(x)))

    def _take(self, x: NDArray[np.float32]) -> int:
        """Take inputs; return their total number."""
        self._past = np.concatenate((self._past, x), axis=1)
        return self._at + self._past.shape[1]

    def _until(self, last: int) -> NDArray[np.float32]:
        polyphase, first, at = self._polyphase, self._done, self._at
        last = max(first, last)
        y = np.stack([polyphase.convert_range(channel, at, first, last) for channel in self._past])
        grid = GRID_BLOCKS * polyphase.block_out
        keep_from = max(at, polyphase.inputs(last // grid * grid) - polyphase.context_before)
        self._past = self._past[:, keep_from - at :].copy()
        self._at, self._done = keep_from, last
        return y


def _filter(rate_in: int, rate_out: int, channels: int) -> _Filter:
    """Return the filter: soxr, except for whole ratios, where its long transforms would delay 50 to 125 ms."""
    whole = polyphase(rate_in, rate_out)
    return _PolyphaseFilter(whole, channels) if whole else _SoxrFilter(rate_in, rate_out, channels)
