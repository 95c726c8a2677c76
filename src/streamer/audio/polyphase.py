"""Resampling by a whole factor as matrix products: what telephones (8 kHz) and browsers (48 kHz) need."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MOST = 12
"""The largest factor: 192 kHz to 16."""
BLOCK = 16
"""Samples of the lower rate in one block of input, and so in one of output: a row of the product."""
GRID_BLOCKS = 16
"""Blocks in one product of `between`."""
_REACH = 40
"""Samples of the lower rate on each side of an output that it depends on: 2.5 ms at 16 kHz, 5 at a telephone's 8."""
_SPAN = 6
"""Blocks of input that one block of output looks at: 2 * _REACH + BLOCK samples."""
_BETA_UP = 9.0
"""Of Kaiser's window: images 90 dB down, flat to 0.93 of the band."""
_BETA_DOWN, _CUTOFF = 6.87, 0.955
"""Flat to 0.9 of the band, 71 dB down from 1.01 of it on."""
CHUNK = 16
"""Rows worked on at a time: what they need stays in the cache, and does not come from the system each time."""


class Polyphase:
    """A linear-phase filter between two rates of which one is a whole multiple of the other.

    Output p lies at input p * down / up and is a windowed-sinc sum over the inputs around it (Oppenheim and Schafer,
    Discrete-Time Signal Processing, 7.6 and 4.6; Kaiser's window). It depends on nothing else: there is no state, and
    any range can be computed at any time from the inputs around it. The sums of a block are one matrix product, so the
    blocks of many streams go through together.
    """

    def __init__(self, up: int, down: int) -> None:
        """Use `polyphase`, which keeps them."""
        self.up, self.down = up, down
        self.block_in, self.block_out = BLOCK * down, BLOCK * up
        reach = _REACH * down
        self.after = reach - (down - 1)
        """Input samples that must follow those of a block before it can be computed."""
        self.before = (_SPAN - 1) * self.block_in - self.after
        """Input samples in front of a block that it looks at."""
        # [looked at, out] -> [in, span * out]: a product with each block of input, of which `convert` adds up _SPAN.
        weights = _weights(up, down, reach, self.before)
        shares = weights.reshape(_SPAN, self.block_in, self.block_out).transpose(1, 0, 2)
        self._matrix = np.ascontiguousarray(shares.reshape(self.block_in, -1))

    def ready(self, inputs: int) -> int:
        """Outputs, from the first, that can be computed once so many inputs have come."""
        return max(0, inputs - self.after) // self.down * self.up

    def due(self, inputs: int) -> int:
        """Outputs that so many inputs make in all, silence after them: half an output rounds up."""
        return (2 * inputs * self.up + self.down) // (2 * self.down)

    def inputs(self, outputs: int) -> int:
        """The input at whose place this output lies; outputs that are multiples of `up`."""
        return outputs // self.up * self.down

    def convert(self, rows: Floats) -> Floats:
        """[n, before + k * block_in + after] -> [n, k * block_out], row by row on its own."""
        n, blocks, out = len(rows), rows.shape[1] // self.block_in - (_SPAN - 1), self.block_out
        result = np.empty((n, blocks, out), np.float32)
        looked_at = rows.reshape(n, blocks + _SPAN - 1, self.block_in)
        for first in range(0, n, CHUNK):
            # A product per row, all of one shape: a row's bits do not depend on the company it is in.
            shares = np.matmul(looked_at[first : first + CHUNK], self._matrix)
            whole = result[first : first + CHUNK]
            np.add(shares[:, :blocks, :out], shares[:, 1 : blocks + 1, out : 2 * out], out=whole)
            for block in range(2, _SPAN):
                whole += shares[:, block : blocks + block, block * out : (block + 1) * out]
        return result.reshape(n, blocks * out)

    def between(self, x: Floats, at: int, first: int, last: int) -> Floats:
        """Outputs [first, last) from the inputs x [n], the first of which is input `at`, silence around them.

        The same bits however a range is divided: each output is always computed at its place in the same product.
        """
        grid_in, grid_out = GRID_BLOCKS * self.block_in, GRID_BLOCKS * self.block_out
        begin, rows = first // grid_out, -(-last // grid_out) - first // grid_out
        start = begin * grid_in - self.before
        looked_at = np.zeros(self.before + rows * grid_in + self.after, np.float32)
        low, high = max(start, at), min(start + len(looked_at), at + len(x))
        if high > low:
            looked_at[low - start : high - start] = x[low - at : high - at]
        size, step = grid_in + self.before + self.after, looked_at.itemsize
        overlapping: Floats = np.ndarray((rows, size), np.float32, looked_at, strides=(grid_in * step, step))
        outputs = self.convert(overlapping).reshape(-1)
        return outputs[first - begin * grid_out : last - begin * grid_out]


def polyphase(rate_in: int, rate_out: int) -> Polyphase | None:
    """The filter between two rates in Hz; None where they are equal or their ratio is not whole, or above MOST."""
    common = math.gcd(rate_in, rate_out)
    up, down = rate_out // common, rate_in // common
    return _made(up, down) if 1 in (up, down) and 1 < up * down <= MOST else None


@cache
def _made(up: int, down: int) -> Polyphase:
    return Polyphase(up, down)


def _weights(up: int, down: int, reach: int, before: int) -> Floats:
    """[_SPAN * block_in, block_out]: what each input that a block looks at adds to each of its outputs."""
    inputs = np.arange(_SPAN * BLOCK * down)[:, None] - before
    offsets = inputs - np.arange(BLOCK * up) * down / up
    inside = np.abs(offsets) <= reach
    beta, cutoff = (_BETA_UP, 1.0) if up > 1 else (_BETA_DOWN, _CUTOFF / down)
    window = np.i0(beta * np.sqrt(np.where(inside, 1 - (offsets / reach) ** 2, 0)))
    weights = np.where(inside, np.sinc(cutoff * offsets) * window, 0)
    weights[np.abs(weights) < 1e-12 * window.max()] = 0  # sin(k * pi): an output at an input's place is that input
    weights /= weights.sum(axis=0)
    return weights.astype(np.float32)
