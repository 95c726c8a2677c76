"""`benchmarks.paced` over gRPC: `python -m benchmarks.paced_grpc PORT PID ...` loads a server, prints what it spent.

grpc.aio's client costs about as much as the server, so a hundred streams of 20 ms are a core's load here. Only the
server's CPU is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import random

import grpc.aio
import msgspec
import uvloop

from benchmarks.paced import CpuUsage, Load, Pace, pieces
from streamer.client.grpc_transport import METHOD
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


async def run(port: int, pid: int, load: Load) -> CpuUsage:
    """Stream until the time is over."""
    audio, chance = messages(load), random.Random(0)
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", OPTIONS) for _ in range(CHANNELS)]
    callers = [Caller(channels[index % CHANNELS], chance.randrange(len(audio))) for index in range(load.streams)]
    listening = [asyncio.create_task(caller.listen()) for caller in callers]
    await asyncio.gather(*(caller.say(start(load)) for caller in callers))

    pace = Pace(load, pid)
    async for turn, mine in pace.turns():
        await asyncio.gather(*(caller.say(audio[(caller.offset + turn) % len(audio)]) for caller in callers[mine]))
    spent = pace.spent(sum(caller.segments for caller in callers), 0)
    for caller in callers:
        caller.hang_up()
    await asyncio.gather(*listening, return_exceptions=True)
    for channel in channels:
        await channel.close()
    return spent


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
