"""What a call costs in a worker process, and in Ray on this node or another: `python -m benchmarks.ray_costs`.

From submit to the last outcome of a batch, through the engine, on a model that does nothing. It needs root (network
namespaces, of which each is a node) and Ray. CPU is that of this process and of the worker process beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import uvloop

from benchmarks.bench_engine import asked, job
from streamer.inference.engine import Engine
from streamer.inference.settings import RaySettings
from streamer.models.loading import ModelSpec
from tests.inference.ray_cluster import Cluster, Network

BATCHES = ((1, 1.0), (16, 1.0), (64, 1.0), (1, 10.0), (16, 10.0))
"""Jobs, and seconds of audio of each."""


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


async def measure(name: str, executor: str, rounds: int, ray: RaySettings | None = None) -> None:
    largest = max(size for size, _ in BATCHES)
    engine = Engine(ModelSpec("stub", {"executor": executor, "max_batch_size": largest}), ray=ray)
    await engine.start()
    try:
        me = psutil.Process()
        processes = [me, *(child for child in me.children() if "spawn_main" in " ".join(child.cmdline()))]
        for size, seconds in BATCHES:
            took: list[float] = []
            for number in range(rounds + 5):
                if number == 5:  # the first ones warm up
                    took, before = [], cpu_s(processes)
                jobs = [job(number, f"s{index}", seconds) for index in range(size)]
                began = time.perf_counter()
                await asyncio.gather(*(asked(engine, each) for each in jobs))
                took.append(time.perf_counter() - began)
            p50, p99 = np.percentile(took, [50, 99]) * 1e3
            spent = (cpu_s(processes) - before) / rounds * 1e3
            print(
                f"{name:18} {size:3} x {seconds:4.0f} s: p50 {p50:7.2f} p99 {p99:7.2f} ms, CPU {spent:6.2f} ms",
                flush=True,
            )
    finally:
        await engine.stop(5)


@contextmanager
def cluster(host: str) -> Iterator[RaySettings]:
    """Run a head here and a node at `host`: `here`, or in a namespace. Yield the settings of its client."""
    with Network() as network:
        started = Cluster(f"{network.PREFIX}.1")
        try:
            started.start_head()
            (started.start_node(started.host) if host == "here" else network.start_node(started, 11)).wait()
            os.environ.update(started.environment)
            yield RaySettings(started.address, num_cpus=0.0, num_gpus=0.0, resources={"gpu_node": 1.0})
        finally:
            started.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    uvloop.run(measure("worker process", "process", rounds))
    for host in ("here", "another"):
        with cluster(host) as settings:
            uvloop.run(measure(f"Ray, {host} node" if host != "here" else "Ray, this machine", "ray", rounds, settings))


if __name__ == "__main__":
    main()
