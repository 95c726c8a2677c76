"""What resampling to 16 kHz costs: CPU per 20 ms message and per stream-second, the delay, the memory of a stream.

Message by message is how a stream is resampled whose ratio is not whole, or that comes as float64. The others are
resampled late, the windows of many streams together. Each figure is the least of several runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import psutil

from streamer.audio.deferred_decoder import Pcm, deferred_decoder, windows_of
from streamer.audio.format import Encoding
from streamer.audio.resample import Resampler
from streamer.vad.network import one_blas_thread

MODEL_RATE = 16_000
RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
STREAMS = 300
WINDOW = 512
BATCH = 64
RUNS = 10


def least_us(work: Callable[[], object]) -> float:
    """CPU of the cheapest of RUNS, on one thread, as the server's scorer has it."""
    took = []
    with one_blas_thread():
        for _ in range(RUNS):
            began = time.process_time()
            work()
            took.append(time.process_time() - began)
    return min(took) * 1e6


def us_per_message(rate: int) -> float:
    """CPU of one 20 ms message, over two seconds of a stream."""
    message = np.random.default_rng(0).uniform(-0.5, 0.5, (1, rate // 50)).astype(np.float32)
    resampler = Resampler(rate, MODEL_RATE)
    return least_us(lambda: [resampler.push(message) for _ in range(100)]) / 100


def us_per_second_late(rate: int) -> float | None:
    """CPU of a stream-second of 16-bit audio, decoded and resampled window by window beside BATCH - 1 others."""
    kept = deferred_decoder(Encoding.PCM_S16LE, rate, MODEL_RATE)
    if kept is None:
        return None
    noise = np.random.default_rng(0)
    pieces = [Pcm(kept, noise.bytes(kept.size(WINDOW) + kept.context_bytes)) for _ in range(BATCH)]
    return least_us(lambda: [windows_of(pieces, WINDOW) for _ in range(20)]) / 20 / BATCH * MODEL_RATE / WINDOW


def kib_per_stream(rate: int) -> float:
    """Growth of a fresh process by streams that have each taken half a second; the filter they share is not counted."""
    message = np.zeros((1, rate // 2), np.float32)
    process = psutil.Process()
    Resampler(rate, MODEL_RATE).push(message)
    before = process.memory_info().rss
    resamplers = [Resampler(rate, MODEL_RATE) for _ in range(STREAMS)]
    for resampler in resamplers:
        resampler.push(message)
    return (process.memory_info().rss - before) / 1024 / STREAMS


def main() -> None:
    print(f"resample to {MODEL_RATE} Hz, mono, messages of 20 ms")
    print(f"{'':7}{'message by message':^38}{'late':>8}")
    print(f"{'rate':>7}{'us/message':>12}{'CPU us per stream-second':>26}{'same':>8}{'delay ms':>10}{'KiB/stream':>12}")
    # A process for each rate: in one, the next rate would live in the memory that the last one left.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        for rate in RATES:
            memory = fresh.submit(kib_per_stream, rate).result()
            cost = us_per_message(rate)
            delay = Resampler(rate, MODEL_RATE).delay * 1e3 / MODEL_RATE
            late = us_per_second_late(rate)
            told = "-" if late is None else f"{late:.0f}"
            print(f"{rate:>7}{cost:>12.1f}{cost * 50:>26.0f}{told:>8}{delay:>10.1f}{memory:>12.0f}")


if __name__ == "__main__":
    main()
