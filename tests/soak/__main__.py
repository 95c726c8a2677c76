"""`python -m tests.soak --minutes 60`: a server under seeded faults. Does it keep its promises?"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil

from streamer.testing import HEALTHY, FaultProxy, Toxics, fault_proxy
from tests.faults.served import ServerProcess, served
from tests.soak.clients import Client, Score

SETTINGS = {
    "model.executor": "process",
    "model.workers": 2,
    "model.delay": 0.01,
    "model.jitter": 0.01,
    "model.failure_rate": 0.02,
    "model.panic_rate": 0.01,
    "model.max_batch_size": 8,
    "model.timeout_floor_s": 2,
    "limits.start_timeout_s": 2,
    "limits.idle_timeout_s": 5,
    "server.handshake_timeout_s": 2,
    "server.outbox_stall_s": 3,
    "server.outbox_bytes": 65_536,
    "server.close_timeout_s": 1,
    "drain.lag_s": 0,
    "engine.restart_backoff_s": 0.1,
    "engine.max_restart_backoff_s": 1,
}
WEATHERS = (
    HEALTHY,
    HEALTHY,
    Toxics(latency_s=0.05),
    Toxics(slice_bytes=700),
    Toxics(bytes_per_s=40_000),
    Toxics(limit_bytes=200_000),
    Toxics(silent=True),
)
MAX_SLOPE_MIB_H = 10.0
"""Growth of the server's memory that a long run may show."""
LONG_MINUTES = 55.0
"""Memory finds its height in steps of some MiB, whenever more comes together than ever before: after half an hour one
of them still looks like 40 MiB an hour."""
PATIENCE_S = 20.0
"""So long after the last client everything may take to be as it was before the first: a worker that was stopped or
killed has to come back, too."""


class Soak:
    """One run."""

    def __init__(self, server: ServerProcess, proxy: FaultProxy, seed: int) -> None:
        self.server = server
        self.proxy = proxy
        self.random = random.Random(seed)
        self.score = Score()
        self.faults: Counter[str] = Counter()
        self.memory: list[tuple[float, float]] = []
        """(minutes, MiB)"""

    async def run(self, minutes: float, clients: int) -> list[str]:
        """Returns what was broken."""
        before = await self.server.metrics()
        port = int(self.server.url.rsplit(":", 1)[1])
        try:
            async with asyncio.timeout(minutes * 60), asyncio.TaskGroup() as tasks:
                for number in range(clients):
                    direct = number % 4 == 0
                    seed = self.random.randrange(2**32)
                    client = Client(port if direct else self.proxy.port, self.score, seed, direct=direct)
                    tasks.create_task(client.run())
                tasks.create_task(self._change_weather())
                tasks.create_task(self._harm_workers())
                tasks.create_task(self._look(minutes))
        except TimeoutError:
            pass
        await self.proxy.set(up=HEALTHY, down=HEALTHY)
        self.proxy.reset()
        return [*self.score.broken, *await self._left(before), *self._growth(minutes)]

    async def _left(self, before: Mapping[str, float]) -> list[str]:
        """What does not become as it was."""
        tries = round(PATIENCE_S / 0.1)
        for _ in range(tries):
            if not (problems := _leaks(before, await self.server.metrics())):
                break
            await asyncio.sleep(0.1)
        return problems

    async def _change_weather(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(1, 8))
            up, down = self.random.choice(WEATHERS), self.random.choice(WEATHERS)
            await self.proxy.set(up=up, down=down)
            self.faults["network"] += 1
            if self.random.random() < 0.2:
                self.faults["reset of all"] += 1
                self.proxy.reset()

    async def _harm_workers(self) -> None:
        """Killed, as by a kernel out of memory; or stopped, as by a call that hangs."""
        while True:
            await asyncio.sleep(self.random.uniform(5, 30))
            workers = self.server.workers()
            if workers:
                how = self.random.choice((signal.SIGKILL, signal.SIGSTOP))
                with suppress(psutil.NoSuchProcess):
                    self.random.choice(workers).send_signal(how)
                    self.faults[f"worker {how.name}"] += 1

    async def _look(self, minutes: float) -> None:
        began, told = time.monotonic(), 0
        while True:
            now = await self.server.metrics()
            self.memory.append(((time.monotonic() - began) / 60, now["process_resident_memory_bytes"] / 2**20))
            print(
                f"{self.memory[-1][0]:6.1f} min  {self.memory[-1][1]:7.1f} MiB  "
                f"{_sum(now, 'streamer_sessions_active'):3.0f} sessions  {now['process_open_fds']:3.0f} descriptors  "
                f"{_sum(now, 'streamer_sessions_closed_total'):7.0f} over  {len(self.score.broken)} broken",
                flush=True,
            )
            print(*(f"  {problem}\n" for problem in self.score.broken[told:]), sep="", end="", flush=True)
            told = len(self.score.broken)
            await asyncio.sleep(min(30.0, minutes * 60 / 10))

    def slope(self) -> float:
        """MiB an hour, by least squares, without the first quarter."""
        minutes, memory = np.array(self.memory[len(self.memory) // 4 :]).T
        return float(np.polyfit(minutes / 60, memory, 1)[0])

    def _growth(self, minutes: float) -> list[str]:
        slope = self.slope()
        return (
            [f"memory grows by {slope:.1f} MiB an hour"] if minutes >= LONG_MINUTES and slope > MAX_SLOPE_MIB_H else []
        )


def _leaks(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """What is not as it was before: exactly so, without asking Python's collector."""
    problems = [
        f"{name}: {after[name]:g} are left"
        for name in after
        if name.startswith(("streamer_sessions_active", "streamer_inference_pending", "streamer_audio_buffered"))
        and after[name]
    ]
    for what, count in (("descriptors", lambda metrics: metrics["process_open_fds"]), ("tasks", _live_tasks)):
        if count(after) != count(before):
            problems.append(f"{what}: {count(before):g} before, {count(after):g} after")
    if failures := _sum(after, "streamer_task_failures_total"):
        problems.append(f"{failures:g} errors of our own")
    if not after["streamer_ready"]:
        problems.append("not ready in the end")
    return problems


def _sum(metrics: Mapping[str, float], name: str) -> float:
    return sum(value for key, value in metrics.items() if key.partition("{")[0] == name)


def _live_tasks(metrics: Mapping[str, float]) -> float:
    return _sum(metrics, "streamer_tasks_instrumented_total") - _sum(metrics, "streamer_tasks_dropped_total")


async def soak(minutes: float, clients: int, seed: int, log: Path | None) -> list[str]:
    arguments = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    async with served("stub", *arguments, log=log) as server:
        async with fault_proxy("127.0.0.1", int(server.url.rsplit(":", 1)[1])) as proxy:
            run = Soak(server, proxy, seed)
            broken = await run.run(minutes, clients)
        server.process.terminate()
        code = await server.ended(60.0)
        if code:
            broken.append(f"exit code {code}")
    _report(run, broken)
    return broken


def _report(run: Soak, broken: Sequence[str]) -> None:
    print("\nends of streams:")
    for how, count in run.score.ends.most_common():
        print(f"  {count:7} {how}")
    latencies = np.array(run.score.latencies_s or [0.0]) * 1_000
    p50, p99 = np.percentile(latencies, (50, 99))
    print(f"faults: {dict(run.faults)}")
    print(
        f"end of speech to final, undisturbed clients: p50 {p50:.0f} ms, p99 {p99:.0f} ms, most {latencies.max():.0f}"
    )
    print(
        f"memory: {run.memory[0][1]:.1f} MiB at first, {run.memory[-1][1]:.1f} at last, {run.slope():+.2f} MiB an hour"
    )
    print(f"broken: {len(broken) or 'nothing'}")
    for problem in broken[:50]:
        print(f"  {problem}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=24, help="at a time; every fourth is disturbed by nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="where the server's log goes")
    options = parser.parse_args()
    return bool(asyncio.run(soak(options.minutes, options.clients, options.seed, options.log)))


if __name__ == "__main__":
    sys.exit(main())
