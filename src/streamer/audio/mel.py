"""Log-mel spectrograms as Whisper and its descendants were trained on: 100 frames a second."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
SECONDS = 30
"""Of Whisper."""

_WINDOW = 400
_HOP = 160
_BREAK_HZ = 1_000.0  # Slaney's scale is linear below this and logarithmic above
_MELS_AT_BREAK = 15.0
_STEP = np.log(6.4) / 27.0


def log_mel(samples: NDArray[np.float32], mels: int, seconds: int = SECONDS) -> NDArray[np.float32]:
    """Return float32 [mels, 100 * seconds] of at most `seconds` of audio at 16 kHz, padded with silence."""
    frames = 100 * seconds
    padded = np.zeros(RATE * seconds, np.float32)
    used = min(len(samples), len(padded))
    padded[:used] = samples[:used]
    framed = np.lib.stride_tricks.sliding_window_view(np.pad(padded, _WINDOW // 2, mode="reflect"), _WINDOW)[::_HOP]
    filled = min(frames, used // _HOP + 4)  # frames behind it are silence, whose power is zero
    power = np.zeros((frames, _WINDOW // 2 + 1), np.float32)
    power[:filled] = np.abs(np.fft.rfft(framed[:filled] * _hann(), axis=1)) ** 2
    log = np.log10(np.maximum(power @ _filters(mels).T, 1e-10))
    log = np.maximum(log, log.max() - 8.0)
    return np.ascontiguousarray(((log + 4.0) / 4.0).T, dtype=np.float32)


@cache
def _hann() -> NDArray[np.float32]:
    return np.hanning(_WINDOW + 1)[:-1].astype(np.float32)


@cache
def _filters(mels: int) -> NDArray[np.float32]:
    """Return the triangular filters of Slaney's scale, each of unit area: float32 [mels, 201]."""
    bins = np.fft.rfftfreq(_WINDOW, 1 / RATE)
    edges = _hz(np.linspace(0.0, _mel(RATE / 2), mels + 2))
    widths = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None], dtype=np.float32)


def _mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz * _MELS_AT_BREAK / _BREAK_HZ
    return float(_MELS_AT_BREAK + np.log(hz / _BREAK_HZ) / _STEP)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = mel * _BREAK_HZ / _MELS_AT_BREAK
    return np.where(mel < _MELS_AT_BREAK, linear, _BREAK_HZ * np.exp(_STEP * (mel - _MELS_AT_BREAK)))
