"""What a call costs through the engine, what batching gains, and how soon a lost worker is back."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import uvloop

from streamer.inference.engine import Engine
from streamer.inference.observer import EngineObserver, LossCause
from streamer.inference.settings import RaySettings
from streamer.models.loading import ModelSpec
from streamer.session.actions import Job, JobId, JobKind, Outcome, Output

RATE = 16_000
CLIENTS = 50
PERIOD_S = 0.5
SECONDS = 8.0


def job(number: int, session: str = "s", seconds: float = 0.5, options: bytes = b"{}") -> Job:
    samples = np.zeros(int(RATE * seconds), np.float32)
    return Job(number, session, 0, 0, number, JobKind.FINAL, 0, samples, RATE, options)


def asked(engine: Engine, new: Job, told: Callable[[Outcome], None] = lambda outcome: None) -> asyncio.Future[Outcome]:
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def take(_: JobId, outcome: Outcome) -> None:
        told(outcome)
        answer.set_result(outcome)

    engine.submit(new, take)
    return answer


async def overhead(executor: str, seconds: float, calls: int = 300, ray: RaySettings | None = None) -> float:
    """Milliseconds from submit to outcome on a model that costs nothing, median."""
    engine = Engine(ModelSpec("stub", {"executor": executor}), ray=ray)
    await engine.start()
    took = []
    for number in range(calls):
        new = job(number, seconds=seconds)
        began = time.perf_counter()
        await asked(engine, new)
        took.append(time.perf_counter() - began)
    await engine.stop(5)
    return statistics.median(took) * 1e3


async def live(executor: str, batch_size: int, seconds: float, ray: RaySettings | None = None) -> np.ndarray:
    """Milliseconds from submit to outcome of CLIENTS that each send half a second of audio each half second."""
    spec = ModelSpec("benchmarks.costly:Costly", {"executor": executor, "max_batch_size": batch_size})
    engine = Engine(spec, ray=ray)
    await engine.start()
    loop, took = asyncio.get_running_loop(), []

    async def client(index: int) -> None:
        await asyncio.sleep(random.Random(index).random() * PERIOD_S)
        until, answers = loop.time() + seconds, []
        while loop.time() < until:
            began = loop.time()
            told = partial(lambda began, outcome: took.append(loop.time() - began), began)
            answers.append(asked(engine, job(len(answers), f"s{index}"), told))
            await asyncio.sleep(PERIOD_S)
        await asyncio.gather(*answers)

    await asyncio.gather(*(client(index) for index in range(CLIENTS)))
    await engine.stop(5)
    return np.percentile(took, [50, 95, 99]) * 1e3


class Watch(EngineObserver):
    """When workers were lost and when they were back."""

    def __init__(self) -> None:
        self.lost: asyncio.Queue[float] = asyncio.Queue()
        self.back: asyncio.Queue[float] = asyncio.Queue()

    def worker_lost(self, worker: int, cause: LossCause) -> None:
        self.lost.put_nowait(time.perf_counter())

    def worker_started(self, worker: int, seconds: float) -> None:
        self.back.put_nowait(time.perf_counter())


async def loss(how: str) -> tuple[float, float]:
    """Seconds until a loss is known and until the worker is back. `how`: at rest, in a call, hung (its time is 1 s)."""
    watch = Watch()
    settings = {"executor": "process", "timeout_floor_s": 1.0, "timeout_factor": 0.0}
    engine = Engine(ModelSpec("benchmarks.costly:Costly", settings), observer=watch)
    await engine.start()
    await watch.back.get()
    pid = await asked(engine, job(0))
    assert isinstance(pid, Output)
    began = time.perf_counter()
    if how != "at rest":
        asked(engine, job(1, options=b'{"hang":true}'))
    if how != "hung":
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        os.kill(int(str(pid.value)), signal.SIGKILL)
    found = await watch.lost.get() - began, await watch.back.get() - began
    await engine.stop(0)
    return found


def main(seconds: float = SECONDS, ray_address: str = "") -> None:
    """`ray_address`: of a Ray cluster whose nodes have the resource `gpu_node`; empty: without Ray."""
    logging.disable()
    ray = RaySettings(ray_address, num_cpus=0.0, num_gpus=0.0, resources={"gpu_node": 1.0})
    executors = ("thread", "process", "ray") if ray_address else ("thread", "process")
    print("milliseconds of a call through the engine")
    for executor in executors:
        times = [uvloop.run(overhead(executor, seconds, ray=ray)) for seconds in (1.0, 10.0)]
        print(f"  {executor:8} 1 s of audio {times[0]:.2f}, 10 s {times[1]:.2f}")
    print("seconds until a worker killed by SIGKILL, or hung with a time of 1 s, is known / is back")
    for how in ("at rest", "in a call", "hung"):
        lost, back = uvloop.run(loss(how))
        print(f"  {how:9} {lost:.3f} / {back:.2f}")
    print(f"{CLIENTS} live clients, 20 ms a call and 1 ms an item: latency in ms over {seconds:g} s")
    for executor in executors:
        for size in (1, 32):
            p50, p95, p99 = uvloop.run(live(executor, size, seconds, ray))
            print(f"  {executor:8} max_batch_size {size:2}: p50 {p50:.0f}, p95 {p95:.0f}, p99 {p99:.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the live clients (default: %(default)s)")
    parser.add_argument(
        "--ray", default="", metavar="ADDRESS", help="measure a Ray cluster as well (docs/how/scale-out.md)"
    )
    options = parser.parse_args()
    main(options.seconds, options.ray)
