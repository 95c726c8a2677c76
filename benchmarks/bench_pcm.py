"""What decoding costs: one 32 ms chunk of each encoding, and that as CPU per second of a stream."""

from __future__ import annotations

import time

import numpy as np

from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import Decoder

RATE = 16_000
FRAMES = 512
CALLS = 2_000


def sample_data(encoding: Encoding, channels: int) -> bytes:
    samples = np.random.default_rng(0).uniform(-1, 1, FRAMES * channels)
    if encoding is Encoding.PCM_F32LE:
        return samples.astype("<f4").tobytes()
    if encoding is Encoding.PCM_F64LE:
        return samples.astype("<f8").tobytes()
    return np.random.default_rng(0).bytes(samples.size * encoding.sample_bytes)


def us_per_call(decoder: Decoder, data: bytes) -> float:
    """The best of five runs: the others tell about the machine's neighbours."""
    runs = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(CALLS):
            decoder.push(data)
        runs.append((time.perf_counter() - began) / CALLS * 1e6)
    return min(runs)


def main() -> None:
    print(f"decode {FRAMES} frames ({FRAMES * 1000 // RATE} ms at {RATE} Hz)")
    print(f"{'encoding':<12}{'channels':>9}{'us/call':>10}{'CPU us per stream-second':>27}")
    for encoding in Encoding:
        for channels in (1, 2):
            cost = us_per_call(Decoder(AudioFormat(encoding, RATE, channels)), sample_data(encoding, channels))
            print(f"{encoding:<12}{channels:>9}{cost:>10.2f}{cost * RATE / FRAMES:>27.0f}")


if __name__ == "__main__":
    main()
