"""Many paced streams at little cost: `python -m benchmarks.paced PORT PID ...` loads a server, prints what it spent.

A process of its own on a bare protocol: its frames are built once (masked with zeros, which leaves the audio as it is),
and answers are only counted. So it loads a server with hundreds of streams from the half of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import random
import struct
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from time import monotonic
from typing import cast

import msgspec
import numpy as np
import psutil
import soundfile
import uvloop

from streamer.audio.resample import Resampler
from streamer.samples import sample

DIALECTS = ("v1", "v2")
SETTLE_S = 1.0
SLOT_S = 0.002
"""Streams are spread over a chunk's time in steps of this."""


class Load(msgspec.Struct, frozen=True):
    """So many streams of `rate` Hz in messages of `chunk_ms`, measured for `seconds`."""

    streams: int
    chunk_ms: int = 20
    rate: int = 16_000
    seconds: float = 3.0
    dialect: str = "v1"
    """v2 has words that v1 has not, of how far the server is."""


class CpuUsage(msgspec.Struct, frozen=True):
    """What the server did meanwhile."""

    cpu_ms: float
    """CPU of the process per second of a stream."""
    segments: int
    """Answers of the model that came."""
    late_ms: float
    """The most that a message was sent late: the generator's own fault."""
    unread: int
    """Bytes that the server had not taken in the end: it is overloaded where this is not 0."""


def frame(opcode: int, payload: bytes) -> bytes:
    """RFC 6455, 5.2: one whole frame of a client."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack(">BH", 0x80 | 126, len(payload))
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def pieces(load: Load) -> list[bytes]:
    """The package's recording, cut into the audio of messages."""
    audio, rate = soundfile.read(io.BytesIO(sample().read_bytes()), dtype="float32")
    resampler = Resampler(rate, load.rate)
    heard = np.concatenate([resampler.push(audio[None]), resampler.flush()], axis=1)[0]
    data = (heard.clip(-1, 1) * 32_767).astype("<i2").tobytes()
    size = load.rate * load.chunk_ms // 1000 * 2
    return [data[at : at + size] for at in range(0, len(data) - size, size)]


def starts(load: Load) -> dict[str, object]:
    """The start of each dialect."""
    v1 = {"channels": 1, "sample_rate": load.rate, "bit_depth": 16, "is_float": False}
    v2 = {"channels": 1, "sample_rate": load.rate, "encoding": "pcm_s16le"}
    return {"v1": {"request": "start", "format": v1}, "v2": {"type": "start", "format": v2}}


class Pace:
    """When whose message is due, and what the server spends meanwhile; everything before SETTLE_S is not counted."""

    def __init__(self, load: Load, pid: int) -> None:
        self._load = load
        self._server = psutil.Process(pid)
        self._slots = max(1, round(load.chunk_ms / 1000 / SLOT_S))
        self._slot, self._late = 0, 0.0
        self._counted: tuple[float, int] | None = None

    async def turns(self) -> AsyncIterator[tuple[int, slice]]:
        """Each slot until the time is over: the number of the message, and which of the streams say it."""
        began = monotonic()
        while (now := monotonic()) < began + SETTLE_S + self._load.seconds:
            due = began + self._slot * self._load.chunk_ms / 1000 / self._slots
            await asyncio.sleep(max(0.0, due - now))  # also where it is late: its sockets want their turn
            now = monotonic()
            self._late = max(self._late, now - due)
            if self._counted is None and now > began + SETTLE_S:
                self._counted, self._late = (cpu_s(self._server), self._slot), 0.0
            turn, place = divmod(self._slot, self._slots)
            yield turn, slice(place, None, self._slots)
            self._slot += 1

    def spent(self, segments: int, unread: int) -> CpuUsage:
        """What it came to, once the turns are over."""
        assert self._counted is not None
        before_s, first = self._counted
        spent_s = cpu_s(self._server) - before_s
        stream_s = (self._slot - first) / self._slots * self._load.chunk_ms / 1000 * self._load.streams
        return CpuUsage(spent_s / stream_s * 1e3, segments, self._late * 1e3, unread)


class Peer(asyncio.Protocol):
    """One stream: it has been let in, and hears its answers."""

    def __init__(self, dialect: str) -> None:
        self._path = f"/api/{dialect}/segmented"
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.segments = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        transport.write(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self.admitted.done():
            self.segments += data.count(b'"segment"')
        elif data.startswith(b"HTTP/1.1 101"):
            self.admitted.set_result(None)
        else:
            self.admitted.set_exception(ConnectionError(data.decode(errors="replace")))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.admitted.done():
            self.admitted.set_exception(ConnectionError("closed before the upgrade"))


async def run(port: int, pid: int, load: Load) -> CpuUsage:
    """Stream until the time is over."""
    loop, audio = asyncio.get_running_loop(), [frame(2, piece) for piece in pieces(load)]
    peers = [
        (await loop.create_connection(partial(Peer, load.dialect), "127.0.0.1", port))[1] for _ in range(load.streams)
    ]
    await asyncio.gather(*(peer.admitted for peer in peers))
    start = frame(1, msgspec.json.encode(starts(load)[load.dialect]))
    for peer in peers:
        peer.transport.write(start)

    chance = random.Random(0)
    places = [(peer.transport, chance.randrange(len(audio))) for peer in peers]
    pace = Pace(load, pid)
    async for turn, mine in pace.turns():
        for transport, offset in places[mine]:
            transport.write(audio[(offset + turn) % len(audio)])
    unread = sum(peer.transport.get_write_buffer_size() for peer in peers)
    return pace.spent(sum(peer.segments for peer in peers), unread)


def cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU that a process has had."""
    if sys.platform == "linux":  # to the nanosecond: clock_getcpuclockid(3), which Python has for threads alone
        return time.clock_gettime(~process.pid << 3 | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int, help="the process whose CPU is measured")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--chunk-ms", type=int, default=20)
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--dialect", choices=DIALECTS, default="v1")
    options = parser.parse_args()
    load = Load(options.streams, options.chunk_ms, options.rate, options.seconds, options.dialect)
    print(msgspec.json.encode(uvloop.run(run(options.port, options.pid, load))).decode())


if __name__ == "__main__":
    main()
