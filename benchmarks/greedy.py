"""Measure the memory of the server beside a few greedy sessions: `python -m benchmarks.greedy --sessions 6`.

Each sends 64-bit floats of eight channels at 192 kHz, as fast as they are read, behind a stop that waits for the model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress
from time import monotonic

import psutil
import websockets

from benchmarks.servers import Server, running

MIB = 2**20
START = {
    "type": "start",
    "format": {"encoding": "pcm_f64le", "sample_rate": 192_000, "channels": 8},
    "chunk_ms": 20,
}
PIECE = bytes(64_000)
LOOK_S = 0.1


class Attack:
    """Sessions that send while they are read. `sent`: bytes of all."""

    def __init__(self, port: int, until: float) -> None:
        self.url = f"ws://127.0.0.1:{port}/api/v2/simple"
        self.until = until
        self.sent = 0

    async def session(self) -> None:
        with suppress(websockets.ConnectionClosed, TimeoutError):
            socket = await websockets.connect(self.url, compression=None, ping_interval=None)
            reading = asyncio.create_task(_read(socket))
            try:
                await socket.send(json.dumps(START))
                for _ in range(60):
                    await socket.send(PIECE)
                await socket.send('{"type":"stop","keep_open":true}')
                async with asyncio.timeout(self.until - monotonic()):
                    while True:
                        await socket.send(PIECE)
                        self.sent += len(PIECE)
            finally:
                reading.cancel()
                socket.transport.abort()


async def _read(socket: websockets.ClientConnection) -> None:
    with suppress(websockets.ConnectionClosed):
        async for _ in socket:
            pass


async def attacked(server: Server, sessions: int, seconds: float) -> tuple[float, float, int]:
    """RSS in MiB before the attack, the most during it, and the bytes that were sent."""
    process = psutil.Process(server.pid)
    before = most = process.memory_info().rss / MIB
    attack = Attack(server.port, monotonic() + seconds)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(sessions):
            tasks.create_task(attack.session())
        while monotonic() < attack.until:
            await asyncio.sleep(LOOK_S)
            most = max(most, process.memory_info().rss / MIB)
    return before, most, attack.sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--limit-mib", type=float, default=200.0)
    options = parser.parse_args()
    with running("ours with a slow model") as server:
        before, most, sent = asyncio.run(attacked(server, options.sessions, options.seconds))
    print(f"{options.sessions} sessions, {sent / MIB:.0f} MiB sent: RSS {before:.0f} -> {most:.0f} MiB")
    sys.exit(int(most - before > options.limit_mib))


if __name__ == "__main__":
    main()
