"""Resampling by a whole factor as matrix products, for telephones (8 kHz) and browsers (48 kHz)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

MAX_RATIO = 12
"""The largest factor: 192 kHz to 16."""
BLOCK = 32
"""Samples of the lower rate in one block of input, and so of output: a row of the product."""
GRID_BLOCKS = 8
"""Blocks in one product of `convert_range`."""
_REACH = 40
"""Samples of the lower rate on each side of an output that it depends on: 2.5 ms at 16 kHz, 5 ms at 8 kHz."""
_BETA_UP = 9.0
"""Shape of Kaiser's window: images 90 dB down, flat to 0.93 of the band."""
_BETA_DOWN, _CUTOFF = 6.87, 0.955
"""Flat to 0.9 of the band, 71 dB down from 1.01 of it on."""
_LINE = 64
"""Bytes of a cache line."""
_CHUNK = 64
"""Rows processed at a time, times the factor: their memory (some 400 KiB) stays in the cache, and is not requested from
the system each time."""


class Polyphase:
    """A linear-phase filter between two rates, one of which is a whole multiple of the other.

    Output p is at input p * down / up and is a windowed-sinc sum over the inputs around it (Oppenheim and Schafer,
    Discrete-Time Signal Processing, 7.6 and 4.6; Kaiser's window). For upsampling, an output at an input's position is
    that input. There is no state: any range can be computed at any time from the inputs around it. The sums of a block
    are a row of one matrix product, so the blocks of many streams are computed together.
    """

    def __init__(self, up: int, down: int) -> None:
        """Compute the weights; use `polyphase`, which caches filters."""
        self.up, self.down = up, down
        self.block_in, self.block_out = BLOCK * down, BLOCK * up
        self.context_before = _REACH * down
        """Input samples before a block that it needs."""
        self.context_after = self.context_before - (down - 1)
        """Input samples after a block that it needs."""
        self.chunk = max(1, _CHUNK // max(up, down))
        """Rows of speech windows processed at a time."""
        self._taps = self.context_before + self.block_in + self.context_after
        self._matrix = _align(_weights(up, down, self.context_before, self._taps))

    def output_ready(self, inputs: int) -> int:
        """Return the number of outputs, from the first, that `inputs` inputs make available."""
        return max(0, inputs - self.context_after) // self.down * self.up

    def output_count(self, inputs: int) -> int:
        """Return the number of outputs of `inputs` inputs in total, followed by silence: half an output rounds up."""
        return (2 * inputs * self.up + self.down) // (2 * self.down)

    def inputs(self, outputs: int) -> int:
        """Return the input at the position of this output, a multiple of `up`."""
        return outputs // self.up * self.down

    def convert(self, rows: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Convert [n, before + k * block_in + after] to [n, k * block_out], row by row; contiguous, `out` too."""
        n, step = rows.shape
        blocks = (step - self.context_before - self.context_after) // self.block_in
        if out is None:
            out = np.empty((n, blocks * self.block_out), np.float32)
        self._fill(out.reshape(n, blocks, self.block_out), rows, step)
        return out

    def convert_range(self, x: FloatArray, at: int, first: int, last: int) -> FloatArray:
        """Return outputs [first, last) from the inputs x [n], which begin at input `at`, with silence around them.

        The division of a range does not change a bit: each output is always computed at its place in the same product.
        """
        grid_in, grid_out = GRID_BLOCKS * self.block_in, GRID_BLOCKS * self.block_out
        begin, rows = first // grid_out, -(-last // grid_out) - first // grid_out
        start = begin * grid_in - self.context_before
        looked_at = np.zeros(self.context_before + rows * grid_in + self.context_after, np.float32)
        low, high = max(start, at), min(start + len(looked_at), at + len(x))
        if high > low:
            looked_at[low - start : high - start] = x[low - at : high - at]
        outputs = np.empty((rows, GRID_BLOCKS, self.block_out), np.float32)
        self._fill(outputs, looked_at, grid_in)
        return outputs.reshape(-1)[first - begin * grid_out : last - begin * grid_out]

    def _fill(self, out: FloatArray, x: FloatArray, step: int) -> None:
        """Compute out [n, blocks, block_out] from x; a row's inputs begin `step` after the previous row's."""
        blocks, size = out.shape[1], x.itemsize
        for first in range(0, len(out), self.chunk):
            some = out[first : first + self.chunk]
            n = len(some)
            shape, strides = (n, blocks, self._taps), (step * size, self.block_in * size, size)
            # The inputs of each block, one after the other: BLAS does not take overlapping rows.
            looked_at = np.ndarray(shape, np.float32, x, first * step * size, strides).copy()
            # One product per row, all of one shape: the bits of a row do not depend on the other rows.
            if self.up == 1:
                np.matmul(looked_at, self._matrix, out=some)
            else:
                samples = some.reshape(n, blocks, BLOCK, self.up)
                samples[..., 0] = looked_at[..., self.context_before : self.context_before + BLOCK]
                samples[..., 1:] = np.matmul(looked_at, self._matrix).reshape(n, blocks, BLOCK, -1)


def polyphase(rate_in: int, rate_out: int) -> Polyphase | None:
    """Return the filter between two rates in Hz; None if they are equal, not a whole multiple, or above MOST."""
    common = math.gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    return _build(up, down) if 1 in (up, down) and 1 < up * down <= MAX_RATIO else None


@cache
def _build(up: int, down: int) -> Polyphase:
    return Polyphase(up, down)


def _weights(up: int, down: int, reach: int, looks: int) -> FloatArray:
    """Return [looks, out]: the weight of each input of a block in each of its outputs that is not an input itself."""
    outputs = np.arange(BLOCK * up)
    offsets = np.arange(looks)[:, None] - reach - outputs[(up == 1) | (outputs % up > 0)] * down / up
    inside = np.abs(offsets) <= reach
    beta, cutoff = (_BETA_UP, 1.0) if up > 1 else (_BETA_DOWN, _CUTOFF / down)
    window = np.i0(beta * np.sqrt(np.where(inside, 1 - (offsets / reach) ** 2, 0)))
    weights = np.where(inside, np.sinc(cutoff * offsets) * window, 0)
    weights /= weights.sum(axis=0)
    return weights.astype(np.float32)


def _align(x: FloatArray) -> FloatArray:
    """Return a copy that starts on a cache line, as its rows then do: products with it take up to a fifth less time."""
    room = np.empty(x.size + _LINE // x.itemsize, np.float32)
    first = -room.ctypes.data % _LINE // x.itemsize
    copy = room[first : first + x.size].reshape(x.shape)
    copy[:] = x
    return copy
