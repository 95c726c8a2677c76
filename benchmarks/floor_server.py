"""Less than any server in Python can spend: read the bytes, and do the scorer's arithmetic. It answers nothing.

`python -m benchmarks.floor_server --port 8091` reads each socket as uvloop does, looks at nothing in it, and has the
network score as many windows of noise as so many streams would fill, in batches every 10 ms as the real server does.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import cast

import numpy as np
import uvloop

from streamer.vad.network import BATCH, GATES, HIDDEN, PADDED, SAMPLE_RATE, WINDOW, Network, one_blas_thread

PERIOD_S = 0.010
UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Arithmetic:
    """The network on noise, nothing around it."""

    def __init__(self) -> None:
        self._network = Network()
        self._noise = np.random.default_rng(0).normal(0, 0.1, (BATCH, PADDED)).astype(np.float32)
        self._gates = np.empty((BATCH, GATES), np.float32)
        self._hidden, self._cell = np.zeros((2, BATCH, HIDDEN), np.float32)

    def score(self, count: int) -> None:
        gates, hidden = self._gates[:count], self._hidden[:count]
        self._network.encode(self._noise[:count], gates)
        self._network.step(gates, hidden, self._cell[:count])
        self._network.probabilities(hidden)


class Peer(asyncio.Protocol):
    """Reads. `streams` has those that stream."""

    def __init__(self, streams: set[Peer]) -> None:
        self._streams = streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /readyz"):
            self._transport.write(READY)
        elif self not in self._streams:
            self._streams.add(self)
            self._transport.write(UPGRADED)

    def connection_lost(self, error: Exception | None) -> None:
        self._streams.discard(self)


async def serve(port: int) -> None:
    loop, arithmetic, streams = asyncio.get_running_loop(), Arithmetic(), set[Peer]()
    await loop.create_server(lambda: Peer(streams), "127.0.0.1", port)
    last, owed = loop.time(), 0.0
    while True:
        await asyncio.sleep(PERIOD_S)
        now = loop.time()
        owed += len(streams) * (now - last) * SAMPLE_RATE / WINDOW
        last = now
        while owed >= 1:
            count = min(int(owed), BATCH)
            arithmetic.score(count)
            owed -= count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8091)
    with one_blas_thread(), np.errstate(over="ignore"):
        uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
