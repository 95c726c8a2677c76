"""`benchmarks.paced` over gRPC: `python -m benchmarks.paced_grpc PORT PID ...` loads a server, prints what it spent.

grpc.aio's client costs about as much as the server, so a hundred streams of 20 ms are a core's load here. Only the
server's CPU is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from time import monotonic

import grpc.aio
import msgspec
import psutil
import uvloop

from benchmarks.paced import SETTLE_S, SLOT_S, Load, Spent, cpu_s, pieces
from streamer.client.grpc_link import METHOD
from streamer.protocols.pb import streamer_pb2 as pb

CHANNELS = 8
"""Connections, as of so many clients that each multiplex their streams."""
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


class Caller:
    """One stream: says a message when it is its turn, counts answers."""

    def __init__(self, channel: grpc.aio.Channel, offset: int) -> None:
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(METHOD)()
        self.say = self._call.write
        self.hang_up = self._call.cancel
        self.offset = offset
        self.segments = 0

    async def listen(self) -> None:
        while isinstance(frame := await self._call.read(), bytes):
            self.segments += pb.ServerMessage.FromString(frame).HasField("segment")


async def run(port: int, pid: int, load: Load) -> Spent:
    """Stream until the time is over, slot by slot as `paced` does; everything before SETTLE_S is not counted."""
    server, audio, chance = psutil.Process(pid), messages(load), random.Random(0)
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) for _ in range(CHANNELS)]
    callers = [Caller(channels[index % CHANNELS], chance.randrange(len(audio))) for index in range(load.streams)]
    listening = [asyncio.create_task(caller.listen()) for caller in callers]
    await asyncio.gather(*(caller.say(start(load)) for caller in callers))

    slots = max(1, round(load.chunk_ms / 1000 / SLOT_S))
    began, late, slot = monotonic(), 0.0, 0
    counted: tuple[float, int] | None = None
    while (now := monotonic()) < began + SETTLE_S + load.seconds:
        due = began + slot * load.chunk_ms / 1000 / slots
        if due > now:
            await asyncio.sleep(due - now)
        late = max(late, now - due)
        if counted is None and now > began + SETTLE_S:
            counted, late = (cpu_s(server), slot), 0.0
        turn, place = divmod(slot, slots)
        group = callers[place::slots]
        await asyncio.gather(*(caller.say(audio[(caller.offset + turn) % len(audio)]) for caller in group))
        slot += 1
    assert counted is not None
    spent_s = cpu_s(server) - counted[0]
    stream_s = (slot - counted[1]) / slots * load.chunk_ms / 1000 * load.streams
    for caller in callers:
        caller.hang_up()
    await asyncio.gather(*listening, return_exceptions=True)
    for channel in channels:
        await channel.close()
    return Spent(spent_s / stream_s * 1e3, sum(caller.segments for caller in callers), late * 1e3, 0)


def messages(load: Load) -> list[bytes]:
    return [pb.ClientMessage(audio=piece).SerializeToString() for piece in pieces(load)]


def start(load: Load) -> bytes:
    form = pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=load.rate, channels=1)
    return pb.ClientMessage(start=pb.Start(format=form)).SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int, help="the process whose CPU is measured")
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--chunk-ms", type=int, default=20)
    parser.add_argument("--rate", type=int, default=16_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    load = Load(options.streams, options.chunk_ms, options.rate, options.seconds)
    print(msgspec.json.encode(uvloop.run(run(options.port, options.pid, load))).decode())


if __name__ == "__main__":
    main()
