"""Lose an actor, node, head or network of a Ray cluster under 200 live streams: `python -m benchmarks.ray_losses`.

It needs root (network namespaces), Ray, and some minutes. The server is a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import streamer
from streamer.client.events import Error, Finished, Segment
from streamer.errors import StreamerError
from tests.inference.ray_cluster import Cluster, Network

RATE = 16_000
PIECE_S = 0.5
SETTINGS = """
[server]
port = 0
max_control_share_per_address = 0
max_handshakes_per_address = 0
[grpc]
port = 0
[engine]
load_timeout_s = 60
max_restart_backoff_s = 5
[model]
executor = "ray"
workers = 2
max_batch_size = 32
timeout_floor_s = 20.0
[ray]
address = "{address}"
num_cpus = 0.0
num_gpus = 0.0
resources = {{ gpu_node = 3 }}
"""


@dataclass
class Seen:
    """Results of all clients. Latencies in seconds from the last audio of a piece to its result, by time of arrival."""

    streams: int = 0
    results: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    cut_off: Counter[str] = field(default_factory=Counter)
    unaccounted: int = 0
    """Streams of whose frames some have neither a result nor an error."""
    latencies: list[tuple[float, float]] = field(default_factory=list)


async def client(url: str, seconds: float, seen: Seen, delay_s: float) -> None:
    """One stream in real time."""
    await asyncio.sleep(delay_s)
    seen.streams += 1
    covered = sent = 0
    piece = bytes(int(RATE * PIECE_S) * 2)
    try:
        async with streamer.connect(url, chunk_ms=int(PIECE_S * 1000)) as stream:
            began = time.monotonic()

            async def speak() -> None:
                nonlocal sent
                while sent < seconds * RATE:
                    await asyncio.sleep(began + sent / RATE + PIECE_S - time.monotonic())
                    await stream.send(piece)
                    sent += len(piece) // 2
                await stream.stop()

            speaking = asyncio.create_task(speak())
            async for event in stream:
                now = time.monotonic()
                if isinstance(event, Segment):
                    seen.results += 1
                    covered += round((event.end_time - event.start_time) * RATE)
                    seen.latencies.append((now, now - began - event.end_time))
                elif isinstance(event, Error):
                    seen.errors[event.code] += 1
                    covered += round(((event.end_time or 0) - (event.start_time or 0)) * RATE)
                elif isinstance(event, Finished) and event.received != covered:
                    seen.unaccounted += 1
            await speaking
    except (StreamerError, ConnectionError) as error:
        seen.cut_off[type(error).__name__] += 1


class Server:
    """`streamer serve` in a process."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._config = folder / "streamer.toml"
        self._config.write_text(SETTINGS.format(address=cluster.address))
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.lines: list[tuple[float, str]] = []
        self._serves = asyncio.Event()

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamer", "serve", "benchmarks.costly:Costly", "--config", str(self._config),
            env={**os.environ, **self._cluster.environment, "STREAMER_LOG__FORMAT": "json"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=2**20,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(120):
            await self._serves.wait()

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            text = line.decode(errors="replace").strip()
            self.lines.append((time.monotonic(), text))
            if not self.url and (found := re.search(r"(?:http|ws)://(127\.0\.0\.1:\d+)", text)):
                self.url = f"ws://{found[1]}/api/v2/simple"
            if self.url and self.count("ready after") >= 2:
                self._serves.set()

    def count(self, words: str) -> int:
        return sum(words in line for _, line in self.lines)

    def times(self, words: str, since: float) -> list[float]:
        return [at - since for at, line in self.lines if words in line and at > since]

    async def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        await self._reading


def actors(cluster: Cluster, index: int) -> list[psutil.Process]:
    """The actors of a node."""
    return [each for each in cluster.nodes[index].family if "StreamerModel" in " ".join(each.cmdline())]


async def lose(how: str, cluster: Cluster, network: Network, seconds: float) -> float:
    """Cause a loss; return how long it lasts."""
    if how == "actor killed":
        for each in actors(cluster, 1):
            each.kill()
    elif how == "node killed":
        cluster.nodes[1].kill()
    elif how == "node frozen":
        cluster.nodes[1].signal(signal.SIGSTOP)
    elif how == "network cut for 30 s":
        network.cable(11, "down")
        await asyncio.sleep(30)
        network.cable(11, "up")
        return 30.0
    elif how == "head killed and back":
        for node in cluster.nodes:
            await asyncio.to_thread(node.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(cluster.start_head)
        for number in (11, 12):
            await asyncio.to_thread(network.start_node(cluster, number).wait)
        return seconds
    return 0.0


async def measure(how: str, streams: int, tell: Callable[[str], None]) -> None:
    with Network() as network, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(f"{network.PREFIX}.1")
        try:
            await asyncio.to_thread(cluster.start_head)
            for number in (11, 12):
                await asyncio.to_thread(network.start_node(cluster, number).wait)
            server = Server(cluster, Path(folder))
            await server.start()
            seen = Seen()
            seconds = 100.0 if "30 s" in how or "head" in how else 60.0
            clients = [asyncio.create_task(client(server.url, seconds, seen, n * 5 / streams)) for n in range(streams)]
            await asyncio.sleep(15)
            at = time.monotonic()
            lasted = await lose(how, cluster, network, 15.0)
            await asyncio.gather(*clients)
            before = [each for when, each in seen.latencies if when < at]
            after = [(when - at, each) for when, each in seen.latencies if when >= at]
            late = [when for when, each in after if each > 1.0]
            report = {
                "loss": how,
                "lasted_s": lasted,
                "known_after_s": [round(each, 2) for each in server.times("exited with code", at)],
                "ready_again_s": [round(each, 2) for each in server.times("ready after", at)],
                "streams": seen.streams,
                "cut_off": dict(seen.cut_off),
                "results": seen.results,
                "errors": dict(seen.errors),
                "unaccounted": seen.unaccounted,
                "p99_before_s": round(sorted(before)[int(len(before) * 0.99)], 3),
                "longest_wait_s": round(max(each for _, each in after), 2),
                "last_result_later_than_1_s": round(max(late, default=0.0), 2),
                "causes": sorted({json.loads(line)["message"][:160] for when, line in server.lines
                                  if when > at and "exited with code" in line}),
            }  # fmt: skip
            tell(json.dumps(report))
            await server.stop()
        finally:
            cluster.stop()


LOSSES = ("actor killed", "node killed", "node frozen", "network cut for 30 s", "head killed and back")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("losses", nargs="*", default=list(LOSSES))
    options = parser.parse_args()
    for loss in options.losses:
        asyncio.run(measure(loss, options.streams, print))
