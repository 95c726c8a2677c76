"""Signals for the scorer's tests: speech-like sound made by arithmetic, and real speech where it is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000
SHARED = Path(__file__).resolve().parents[3] / "shared" / "audio"
SAMPLE = Path(__file__).resolve().parents[2] / "src" / "streamer" / "samples" / "weather.wav"


def synthetic(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """Syllables: harmonics of a gliding pitch through a moving formant, with pauses, over a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * t + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    formant = 700 + 400 * np.sin(2 * np.pi * 2.3 * t)
    voice = sum(np.exp(-(((k * pitch - formant) / 500) ** 2)) * np.sin(k * phase) for k in range(1, 25))
    loudness = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, None) * (np.sin(2 * np.pi * 0.23 * t + seed) > -0.3)
    noise = 0.003 * rng.standard_normal(len(t))
    return np.asarray(0.3 * loudness * voice / np.abs(voice).max() + noise, dtype=np.float32)


def real(name: str) -> NDArray[np.float32]:
    """A recording of one channel at 16 kHz, float32 [n]."""
    path = SAMPLE if name == SAMPLE.name else SHARED / name
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert samples.ndim == 1
    return np.asarray(samples)


def minute(seed: int = 0) -> NDArray[np.float32]:
    """A minute of speech: the project's sample, the recordings there are, and synthetic syllables for the rest."""
    names = [SAMPLE.name, *(path.name for path in sorted(SHARED.glob("librivox-*.wav")))]
    parts = [real(name) for name in names]
    rest = 60.0 - sum(map(len, parts)) / RATE
    return np.concatenate([*parts, synthetic(max(rest, 1.0), seed)])
