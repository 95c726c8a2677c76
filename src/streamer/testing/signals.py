"""Synthetic audio, float32 [n] in [-1, 1), with seeded noise; and one recording."""

from __future__ import annotations

import io
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def silence(seconds: float, sample_rate: int = 16_000) -> Samples:
    return np.zeros(round(seconds * sample_rate), np.float32)


def tone(frequency: float, seconds: float, sample_rate: int = 16_000, *, amplitude: float = 0.5) -> Samples:
    """Return a sine of `frequency` Hz."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(seconds: float, sample_rate: int = 16_000, *, amplitude: float = 0.1, seed: int = 0) -> Samples:
    """Return uniform white noise."""
    random = np.random.default_rng(seed)
    return random.uniform(-amplitude, amplitude, round(seconds * sample_rate)).astype(np.float32)


def speech() -> Samples:
    """Return two spoken sentences with silence around them at 16 kHz, about 6.6 s: the packaged recording."""
    import soundfile  # noqa: PLC0415 (only needed here)

    recording = files("streamer.samples").joinpath("weather.wav").read_bytes()
    samples, _ = soundfile.read(io.BytesIO(recording), dtype="float32")
    return np.asarray(samples, np.float32)


def s16le(samples: NDArray[np.floating]) -> bytes:
    """Convert float [n] or [n, channels] to interleaved little-endian 16-bit integers."""
    return (np.clip(np.asarray(samples), -1.0, 32_767 / 32_768) * 32_768).astype("<i2").tobytes()
