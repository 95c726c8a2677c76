"""How much better `rnnoise` makes speech in noise, and what it costs: SI-SDR, through a server.

python -m benchmarks.denoise [RECORDING ...]
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamer.app import App
from streamer.audio.files import read_audio
from streamer.audio.format import AudioFormat, Encoding
from streamer.client.stream import connect
from streamer.config import Settings
from streamer.samples import sample

Floats = NDArray[np.float32]
FORM = AudioFormat(Encoding.PCM_F32LE, 16_000, 1)
LEVELS_DB = (0, 5, 10)


def si_sdr(reference: Floats, estimate: Floats) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019)."""
    scale = np.dot(estimate, reference) / np.dot(reference, reference)
    target = scale * reference
    return float(10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2)))


def noisy(clean: Floats, level_db: float, seed: int = 0) -> Floats:
    """Return speech with pink noise at a signal-to-noise ratio."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(0, 1, len(clean)))
    spectrum /= np.sqrt(np.maximum(1, np.arange(len(spectrum))))
    noise = np.fft.irfft(spectrum, len(clean))
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (level_db / 10))
    return (clean + noise).astype(np.float32)


async def through(app: App, samples: Floats) -> Floats:
    """Return the audio out of a server, as fast as it goes."""
    data = samples.astype("<f4").tobytes()
    async with connect(f"{app.url}/api/v2/simple", format=FORM, audio_out=True) as stream, asyncio.TaskGroup() as tasks:

        async def speak() -> None:
            for at in range(0, len(data), 32_000):
                await stream.send(data[at : at + 32_000])
            await stream.stop()

        tasks.create_task(speak())
        heard = b"".join([chunk.data async for chunk in stream.audio()])
    return np.frombuffer(heard, "<f4")


async def main(paths: Sequence[Path]) -> None:
    """Print a line for each recording and level."""
    async with App(Settings(server={"port": 0, "model": "rnnoise"}, grpc={"port": 0})) as app:
        print("recording            noise   in      out     gain    samples in = out   seconds of CPU per second")
        for path in paths:
            clean = read_audio(path).samples[0].astype(np.float32)
            for level_db in LEVELS_DB:
                dirty = noisy(clean, level_db)
                began = time.process_time()
                better = await through(app, dirty)
                cpu = (time.process_time() - began) / (len(clean) / 16_000)
                before, after = si_sdr(clean, dirty), si_sdr(clean, better)
                print(
                    f"{path.name:20} {level_db:3} dB {before:6.2f}  {after:6.2f}  {after - before:+6.2f}    "
                    f"{len(dirty) == len(better)!s:18} {cpu:.4f}"
                )


if __name__ == "__main__":
    asyncio.run(main([Path(name) for name in sys.argv[1:]] or [Path(str(sample()))]))
