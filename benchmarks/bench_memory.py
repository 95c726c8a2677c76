"""What connections weigh: idle ones, live streams, and what is left after many have come and gone.

The server is a process of its own; its memory is what it has to itself (USS). The streams are silent: the audio of an
open utterance comes on top. They are slower than real time, so that nothing waits to be scored.

What is left between two crowds is mostly what the C library keeps for the next one, and that follows the largest moment
there has been. So it is read again after the server has given it back, which is what a leak would show in.
"""

from __future__ import annotations

import argparse
import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from statistics import linear_regression

import msgspec
import psutil
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.paced import Peer, frame
from benchmarks.servers import Server, running
from streamer.supervision.heap_trim import CALM_READINGS, PERIOD_S

FORM = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False}
START = frame(1, msgspec.json.encode({"request": "start", "format": FORM}))
CHUNK_S = 0.1
CHUNK = frame(2, bytes(3_200))
LIVE_S = 3.0
"""Audio of a stream until its weight is read: longer than anything that is kept of silence."""
SETTLE_S = 1.0
EBB_S = (CALM_READINGS + 2) * PERIOD_S
"""After a crowd has gone, until the server has given back its memory."""
WARMING = 50
"""Streams before the first reading, so that what the process needs once is not on anybody's account."""


class Scales:
    """Weighs one process, in KiB."""

    def __init__(self, server: Server) -> None:
        self._process = psutil.Process(server.pid)

    async def read(self) -> float:
        await asyncio.sleep(SETTLE_S)
        return float(self._process.memory_full_info().uss) / 1024


@asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[Peer]]:
    """Connections that have been let in; cut at the end, and gone when this is over."""
    loop = asyncio.get_running_loop()
    peers = [(await loop.create_connection(partial(Peer, "v1"), "127.0.0.1", port))[1] for _ in range(count)]
    await asyncio.gather(*(peer.admitted for peer in peers))
    yield peers
    for peer in peers:
        peer.transport.abort()
    while await loop.run_in_executor(None, _sessions, port):  # noqa: ASYNC110 (of another process)
        await asyncio.sleep(0.1)


def _sessions(port: int) -> float:
    """How many there are, by the server's own account."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return sum(it.value for family in families for it in family.samples if it.name == "streamer_sessions_active")


async def speak(peers: list[Peer], seconds: float, pace: float = 0.25) -> None:
    """Start a stream on each, and send silence."""
    for peer in peers:
        peer.transport.write(START)
    for _ in range(round(seconds / CHUNK_S)):
        for peer in peers:
            peer.transport.write(CHUNK)
        await asyncio.sleep(CHUNK_S / pace)


async def weigh(server: Server, count: int, rounds: int) -> None:
    scales = Scales(server)
    async with connected(server.port, WARMING) as peers:
        await speak(peers, 1.0)
    empty = await scales.read()
    print(f"the server before anybody comes: {empty / 1024:.1f} MiB")
    async with connected(server.port, count) as peers:
        idle = await scales.read()
        print(f"{count} idle connections: {(idle - empty) / count:.1f} KiB each")
        await speak(peers, LIVE_S)
        live = await scales.read()
        print(f"{count} live streams, of silence: {(live - empty) / count:.1f} KiB each")
    gone = await scales.read()
    await asyncio.sleep(EBB_S)
    before = await scales.read()
    print(f"after they had gone: {gone / 1024:.1f} MiB; given back: {before / 1024:.1f} MiB")
    kept = []
    for _ in range(rounds):
        async with connected(server.port, count) as peers:
            await speak(peers, 0.3)
        kept.append(await scales.read())
    print(f"after each of {rounds} more comings and goings: {' '.join(f'{one / 1024:.1f}' for one in kept)} MiB")
    if len(late := kept[rounds // 2 :]) > 1:
        slope = linear_regression(range(len(late)), late).slope
        print(f"slope of the last half of them: {slope:.1f} KiB a round")
    await asyncio.sleep(EBB_S)
    left = await scales.read() - before
    print(f"given back: {left / 1024:+.1f} MiB since before them, {1024 * left / (rounds * count):+.0f} bytes a stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with running("ours") as server:
        uvloop.run(weigh(server, options.connections, options.rounds))


if __name__ == "__main__":
    main()
