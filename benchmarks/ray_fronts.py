"""Two servers, one Ray cluster, HAProxy: what a second server adds, and what its end costs.

`python -m benchmarks.ray_fronts` needs root (network namespaces), Ray and HAProxy. The cluster has two nodes with two
actors each; the model takes 20 ms a call and 1 ms an item. One server has all four actors, two have two each.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil

import streamer
from benchmarks.several_models import Report
from streamer.cli.server_subprocess import ServerSubprocess, run_server
from streamer.client.errors import ConnectFailed, ConnectionClosed
from tests.deploy.balancer import Balancer, ServerPorts
from tests.inference.ray_cluster import Cluster, Network

WORKERS = 4
SETTINGS = """
[server]
max_control_share_per_address = 0
max_handshakes_per_address = 0
max_sessions_per_address = 0
trusted_proxies = ["127.0.0.1"]
proxy_header = "x-forwarded-for"
[engine]
load_timeout_s = 60
[model]
executor = "ray"
workers = {workers}
max_batch_size = 32
timeout_floor_s = 20.0
[ray]
address = "{address}"
num_cpus = 0.0
num_gpus = 0.0
resources = {{ gpu_node = 2 }}
"""


@asynccontextmanager
async def fronts(count: int, folder: Path) -> AsyncIterator[tuple[str, list[ServerSubprocess]]]:
    """Run a cluster, servers and their load balancer; yield its URL and the servers."""
    async with AsyncExitStack() as stack:
        network = stack.enter_context(Network())
        cluster = Cluster(f"{network.PREFIX}.1")
        stack.callback(cluster.stop)
        await asyncio.to_thread(cluster.start_head)
        for number in (11, 12):
            await asyncio.to_thread(network.start_node(cluster, number).wait)
        os.environ.update(cluster.environment)
        config = folder / f"{count}.toml"
        config.write_text(SETTINGS.format(workers=WORKERS // count, address=cluster.address))
        servers = []
        for _ in range(count):
            front = run_server("benchmarks.costly:Costly", "--config", str(config))
            servers.append(await stack.enter_async_context(front))
        balancer = Balancer(folder)
        ports = [urlsplit(each.address).port or 0 for each in servers]
        balancer.configure(ServerPorts(port, port, port) for port in ports)
        await stack.enter_async_context(balancer.running())
        await balancer.until("websocket", {f"s{number}": "UP" for number in range(count)})
        yield "ws://{}:{}".format(*balancer.websocket.getsockname()), servers


async def throughput(count: int, streams: str, seconds: float) -> None:
    """Live streams in steps through the load balancer, with `streamer bench` in processes of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        async with fronts(count, folder) as (url, servers):
            for step in streams.split(","):
                processes = [psutil.Process(each.pid) for each in servers]
                spent = -sum(sum(each.cpu_times()[:2]) for each in processes)
                began = time.monotonic()
                out = folder / step
                bench = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "streamer", "bench", "-a", f"{url}/api/v2/segmented", "--duty", "0.8"),
                    *("--streams", step, "--seconds", f"{seconds:g}", "--chunk-ms", "100", "--out", str(out)),
                    stdout=asyncio.subprocess.DEVNULL,
                )
                await bench.wait()
                spent += sum(sum(each.cpu_times()[:2]) for each in processes)
                cores = spent / (time.monotonic() - began)
                [found] = msgspec.json.decode(out.with_name(f"{step}.json").read_bytes(), type=Report).steps
                final = found.final
                print(
                    f"{count} server(s), {found.opened:4} streams: {final.count:5} finals, p50 {final.p50_ms:7.1f} "
                    f"p99 {final.p99_ms:7.1f} ms, lost frames {found.frames.lost}, servers {cores:.2f} cores, "
                    f"sent late p99 {found.load.late.p99_ms:.1f} ms, {dict(found.errors) or 'no errors'}",
                    flush=True,
                )


@dataclass
class Loss:
    """What clients saw. `back`: seconds from the kill to `started` on another server."""

    cut_off: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    back: list[float] = field(default_factory=list)
    lost_at: float = 0.0
    untouched: int = 0


async def caller(url: str, seconds: float, loss: Loss, delay_s: float) -> None:
    """Speak in real time; connect again if the line is cut."""
    await asyncio.sleep(delay_s)
    end = time.monotonic() + seconds
    was_cut = False
    piece = bytes(16_000)
    while time.monotonic() < end:
        try:
            async with streamer.connect(f"{url}/api/v2/simple", chunk_ms=500) as stream:
                if was_cut:
                    loss.back.append(time.monotonic() - loss.lost_at)
                reading = asyncio.create_task(_read(stream))
                while time.monotonic() < end and not reading.done():
                    await stream.send(piece)
                    await asyncio.sleep(0.5)
                if not reading.done():
                    await stream.stop()
                if (lost := await reading) is not None:
                    raise lost
        except ConnectFailed:
            loss.refused += 1
            await asyncio.sleep(random.uniform(0.05, 0.3))
        except ConnectionClosed as error:
            loss.cut_off[f"{error.close_code} {error.reason}".strip()] += 1
            was_cut = True
    loss.untouched += not was_cut


async def _read(stream: streamer.Stream) -> ConnectionClosed | None:
    try:
        async for _ in stream:
            pass
    except ConnectionClosed as error:
        return error
    return None


async def kill(streams: int) -> None:
    """Kill one of two servers under live streams."""
    with tempfile.TemporaryDirectory() as place:
        async with fronts(2, Path(place)) as (url, servers):
            loss = Loss()
            callers = [asyncio.create_task(caller(url, 30.0, loss, n * 5 / streams)) for n in range(streams)]
            await asyncio.sleep(12)
            loss.lost_at = time.monotonic()
            os.kill(servers[0].pid, signal.SIGKILL)
            await asyncio.gather(*callers)
            back = sorted(loss.back)
            print(
                f"one of two servers killed under {streams} streams: {sum(loss.cut_off.values())} cut off "
                f"({dict(loss.cut_off)}), {loss.untouched} untouched, all back after {back[-1]:.2f} s "
                f"(median {back[len(back) // 2]:.2f} s), attempts refused {loss.refused}",
                flush=True,
            )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="*", default=["throughput", "kill"])
    parser.add_argument("--streams", default="200,400,600")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--killed-under", type=int, default=200)
    options = parser.parse_args()
    for count in (1, 2) if "throughput" in options.scenes else ():
        await throughput(count, options.streams, options.seconds)
    if "kill" in options.scenes:
        await kill(options.killed_under)


if __name__ == "__main__":
    asyncio.run(main())
