"""Silero VAD v6 as numpy matrix products over a batch of windows, without state of streams."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

FloatArray = NDArray[np.float32]

SAMPLE_RATE = 16_000
WINDOW = 512
"""Samples per window (32 ms)."""
CONTEXT = 64
"""Samples before each window that are also input of the network."""
PADDED = CONTEXT + WINDOW + 64
"""Input samples of the network: context, window, and 64 reflected on the right."""
HIDDEN = 128
"""Width of the LSTM: a stream has two such vectors."""
GATES = 4 * HIDDEN
BATCH = 128
"""Windows in one pass: limits the work arrays to 2 MB; more would gain a twentieth (docs/design/scorer.md)."""

_HOP, _FRAME, _FRAMES, _BINS = 128, 256, 4, 129


class Network:
    """The published graph, with every work array allocated once. Not thread-safe.

    Run it under `np.errstate(over="ignore")`: exp(89) is infinite in float32 and its sigmoid 0, as it should be.

    The graph: reflect-pad 64 on the right; a convolution as STFT (258 filters of 256, stride 128: 4 frames); the
    magnitude of 129 bins; four convolutions of width 3 with ReLU (129-128 stride 1, 128-64 stride 2, 64-64 stride 2,
    64-128 stride 1); an LSTM cell of 128; ReLU; a linear unit; sigmoid. Each convolution is a few matrix products over
    [window, frame * channel] rows. A tap that sees only padding is omitted: two taps of the third convolution remain,
    one of the fourth.
    """

    def __init__(self) -> None:
        with np.load(str(resources.files("streamer.vad") / "silero_v6.npz")) as archive:
            weights: dict[str, FloatArray] = dict(archive)
        stft = weights["stft"][:, 0]
        self._cosines = np.ascontiguousarray(stft[:_BINS, : _FRAME // 2 + 1].T)
        self._sines = np.ascontiguousarray(stft[_BINS + 1 : -1, 1 : _FRAME // 2].T)
        # [out, in, tap] -> [tap * in, out]: one product sums over the taps and the channels.
        self._conv1, self._conv1_bias = _taps(weights["conv1_weight"]), weights["conv1_bias"]
        self._conv2, self._conv2_bias = _taps(weights["conv2_weight"]), weights["conv2_bias"]
        self._conv3, self._conv3_bias = _taps(weights["conv3_weight"][:, :, 1:]), weights["conv3_bias"]
        self._conv4, self._conv4_bias = _taps(weights["conv4_weight"][:, :, 1:2]), weights["conv4_bias"]
        self._lstm_input = _gates(weights["lstm_weight_input"])
        self._lstm_hidden = _gates(weights["lstm_weight_hidden"])
        self._lstm_bias = _gates(weights["lstm_bias_input"] + weights["lstm_bias_hidden"])
        self._out, self._out_bias = weights["out_weight"].reshape(HIDDEN), weights["out_bias"]

        # A finished array lends its memory to the next one: a smaller working set stays in the cache.
        one, two, three = np.empty((3, BATCH * _FRAMES * _BINS), np.float32)
        self._even, self._imaginary = _reshape(one, _FRAMES, _BINS), _reshape(one, _FRAMES * (_BINS - 2))
        self._odd, self._first = _reshape(two, _FRAMES, _BINS - 2), _reshape(two, _FRAMES * 128)
        self._magnitude, self._recurrent = _reshape(three, _FRAMES * _BINS), _reshape(three, GATES)
        self._second, self._third, self._fourth = (_reshape(one, 2 * 64), _reshape(two, 64), _reshape(one, HIDDEN))

    def encode(self, windows: FloatArray, gates: FloatArray) -> None:
        """Compute the part without time: `windows` [n, PADDED] -> the LSTM's input share in `gates` [n, GATES].

        n is at most BATCH. The last 64 samples of each row of `windows` are overwritten with the reflection.
        """
        n = len(windows)
        windows[:, CONTEXT + WINDOW :] = windows[:, CONTEXT + WINDOW - 2 : WINDOW - 2 : -1]
        magnitude = self._spectrogram(windows)

        first, bins = self._first[:n], _BINS
        np.matmul(magnitude[:, : 2 * bins], self._conv1[bins:], out=first[:, :128])
        np.matmul(magnitude[:, : 3 * bins], self._conv1, out=first[:, 128:256])
        np.matmul(magnitude[:, bins:], self._conv1, out=first[:, 256:384])
        np.matmul(magnitude[:, 2 * bins :], self._conv1[: 2 * bins], out=first[:, 384:])
        _bias_relu(first.reshape(-1, 128), self._conv1_bias)

        second = self._second[:n]
        np.matmul(first[:, :256], self._conv2[128:], out=second[:, :64])
        np.matmul(first[:, 128:], self._conv2, out=second[:, 64:])
        _bias_relu(second.reshape(-1, 64), self._conv2_bias)

        third = np.matmul(second, self._conv3, out=self._third[:n])
        _bias_relu(third, self._conv3_bias)
        fourth = np.matmul(third, self._conv4, out=self._fourth[:n])
        _bias_relu(fourth, self._conv4_bias)

        np.matmul(fourth, self._lstm_input, out=gates)
        gates += self._lstm_bias

    def _spectrogram(self, windows: FloatArray) -> FloatArray:
        """Return the magnitudes [n, 4 * 129] of the four frames of each window.

        The filters are cosines and sines under a symmetric window: row k reads the same (or negated) from sample 1 up
        as from sample 255 down, exactly. So each frame is folded onto itself first, which halves the product.
        """
        n, half = len(windows), _FRAME // 2
        row, sample = windows.strides
        frames = as_strided(windows, (n, _FRAMES, _FRAME), (row, _HOP * sample, sample), writeable=False)
        up, down = frames[..., 1:half], frames[..., :half:-1]
        even, odd = self._even[:n], self._odd[:n]
        np.add(up, down, out=even[..., 1:half])
        even[..., 0], even[..., half] = frames[..., 0], frames[..., half]
        np.subtract(up, down, out=odd)

        magnitude = self._magnitude[:n]
        real, imaginary = magnitude.reshape(-1, _BINS), self._imaginary[:n].reshape(-1, _BINS - 2)
        np.matmul(even.reshape(-1, _BINS), self._cosines, out=real)
        np.matmul(odd.reshape(-1, _BINS - 2), self._sines, out=imaginary)
        np.square(real, out=real)
        np.square(imaginary, out=imaginary)
        real[:, 1:-1] += imaginary  # the first and the last bin have no imaginary part
        np.sqrt(magnitude, out=magnitude)
        return magnitude

    def step(self, gates: FloatArray, hidden: FloatArray, cell: FloatArray) -> None:
        """Advance the LSTM of n streams: `hidden`, `cell` [n, HIDDEN] change in place; `gates` is overwritten.

        The gates i, f and o are negated (see _gates), so that 1 / (1 + exp(gate)) is their sigmoid. It must be this
        form: (1 + tanh(x / 2)) / 2 needs one call less, but its error of 6e-8 near 0, times a large cell, shows as 1e-5
        in the probability.
        """
        gates += np.matmul(hidden, self._lstm_hidden, out=self._recurrent[: len(hidden)])
        sigmoids, new = gates[:, : 3 * HIDDEN], gates[:, 3 * HIDDEN :]
        np.exp(sigmoids, out=sigmoids)
        sigmoids += 1.0
        np.reciprocal(sigmoids, out=sigmoids)
        np.tanh(new, out=new)
        take, keep = gates[:, :HIDDEN], gates[:, HIDDEN : 2 * HIDDEN]
        show = gates[:, 2 * HIDDEN : 3 * HIDDEN]
        take *= new
        cell *= keep
        cell += take
        np.tanh(cell, out=hidden)
        hidden *= show

    def probabilities(self, hidden: FloatArray) -> FloatArray:
        """Return speech probabilities [n] of the LSTM's outputs [n, HIDDEN], which are overwritten."""
        np.maximum(hidden, 0.0, out=hidden)
        logits: FloatArray = hidden @ self._out
        logits += self._out_bias
        np.negative(logits, out=logits)
        np.exp(logits, out=logits)
        logits += 1.0
        return np.reciprocal(logits, out=logits)


def _reshape(memory: FloatArray, *shape: int) -> FloatArray:
    """Return the beginning of the memory as [BATCH, *shape]."""
    return memory[: BATCH * math.prod(shape)].reshape(BATCH, *shape)


def _matrix(weight: FloatArray) -> FloatArray:
    """Convert [out, ..., in] to [in, out], laid out for `x @ matrix`."""
    return np.ascontiguousarray(weight.reshape(len(weight), -1).T)


def _taps(weight: FloatArray) -> FloatArray:
    """Convert [out, in, tap] to [tap * in, out]: rows of neighbouring frames times this give one output frame."""
    return _matrix(weight.transpose(0, 2, 1))


def _gates(weight: FloatArray) -> FloatArray:
    """Convert PyTorch's gate order i, f, g, o to -i, -f, -o, g, laid out for `x @`."""
    take, keep, new, show = np.split(weight, 4)
    return np.ascontiguousarray(np.concatenate([-take, -keep, -show, new]).T, dtype=np.float32)


def _bias_relu(values: FloatArray, bias: FloatArray) -> None:
    values += bias
    np.maximum(values, 0.0, out=values)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit numpy's matrix products to the calling thread in a context.

    BLAS keeps this limit per process, so products of other threads are limited as well. The figures are in
    docs/design/scorer.md.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
