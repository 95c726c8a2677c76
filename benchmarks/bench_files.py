"""Files as fast as the server takes them: how many times real time one core does, on /segmented and on /simple.

A real server with the stub, files sent over WebSocket by this process, which is not counted: only the server's CPU is.
`wall` is what a client sees; there the sender, the neighbours and the second core have their part.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from statistics import median

import psutil
import soundfile

import streamer
from benchmarks.servers import Server, running
from streamer.audio.files import AudioFile
from streamer.client import Finished
from streamer.loadtest.tape import make_tape
from streamer.loadtest.workload import Workload
from streamer.samples import sample

MINUTES = 20
ROUNDS = 4
CHUNK = 16 * 1024
MODES = ("segmented", "simple")
AT_ONCE = (1, 8)


def speech(minutes: int) -> bytes:
    """A file: 16 kHz, 16 bit, somebody speaks half of the time."""
    samples, rate = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    return make_tape(Workload(), [AudioFile(samples[None], rate, "PCM_16")]).pcm * minutes


async def send(port: int, mode: str, audio: bytes) -> None:
    """One file, to its last result. Every frame of it must have been processed."""
    async with streamer.connect(f"ws://127.0.0.1:{port}/api/v2/{mode}") as stream:

        async def speak() -> None:
            for at in range(0, len(audio), CHUNK):
                await stream.send(audio[at : at + CHUNK])
            await stream.stop()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak())
            async for event in stream:
                if isinstance(event, Finished):
                    assert event.processed == event.received == len(audio) // 2, event


async def turn(server: Server, mode: str, files: int, audio: bytes) -> tuple[float, float]:
    """(audio seconds per CPU second of the server, per second on the wall)."""
    process = psutil.Process(server.pid)
    before, began = process.cpu_times(), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(files):
            tasks.create_task(send(server.port, mode, audio))
    wall, after = time.monotonic() - began, process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    seconds = files * len(audio) / 32_000
    return seconds / spent, seconds / wall


def main(minutes: int = MINUTES, rounds: int = ROUNDS) -> None:
    audio = speech(minutes)
    print(f"files of {len(audio) / 32_000 / 60:.1f} min as fast as possible, median of {rounds} turns (least to most)")
    print(f"{'':<12}{'at once':>8}   {'times real time per core':<28}on the wall")
    figures: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with running("ours") as server:
        for _ in range(rounds):
            for mode in MODES:
                for files in AT_ONCE:
                    share = audio if files == 1 else audio[: len(audio) // files & ~1]
                    figures.setdefault((mode, files), []).append(asyncio.run(turn(server, mode, files, share)))
    for (mode, files), turns in figures.items():
        core, wall = ([each[index] for each in turns] for index in (0, 1))
        spreads = (f"{median(each):.0f} ({min(each):.0f} to {max(each):.0f})" for each in (core, wall))
        print(f"/{mode:<11}{files:>8}   " + "".join(f"{spread:<28}" for spread in spreads).rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=MINUTES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    main(options.minutes, options.rounds)
