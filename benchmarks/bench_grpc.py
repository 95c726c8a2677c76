"""CPU per second of a stream over gRPC, beside WebSocket: the same server, the same streams, in turns.

What is left of the difference is grpc.aio's own work for a received message; docs/design/grpc.md says what that is.
"""

from __future__ import annotations

import argparse
import timeit
from collections import defaultdict

from benchmarks.bench_end_to_end import ratios, spread
from benchmarks.paced import Load
from benchmarks.servers import running
from streamer.protocols.grpc_codec import GrpcCodec
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode

ROUNDS = 4
SECONDS = 2.5
STREAMS = 100
CHUNKS_MS = (20, 100)


def decoding() -> None:
    """What a codec makes of an audio message of 20 ms, a message object beside it."""
    audio = bytes(640)
    frame = pb.ClientMessage(audio=audio).SerializeToString()
    grpc, v2 = GrpcCodec(16_000), V2Codec(Mode.SEGMENTED, 16_000)
    ways = {
        "as a message object": lambda: pb.ClientMessage.FromString(frame).audio,
        "by the codec": lambda: grpc.decode(frame),
        "v2 over WebSocket": lambda: v2.decode(audio),
    }
    for name, way in ways.items():
        print(f"  decoding {name:<20} {min(timeit.repeat(way, number=20_000, repeat=5)) / 20_000 * 1e6:5.2f} us")


def main(streams: int = STREAMS, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    decoding()
    print(f"CPU ms per stream-second, median of {rounds} turns (least to most); {streams} streams, {seconds} s a turn")
    cost: dict[tuple[str, int], list[float]] = defaultdict(list)
    with running("ours") as server:
        for _ in range(rounds):
            for chunk_ms in CHUNKS_MS:
                for name in ("websocket", "grpc"):
                    spent = server.under(Load(streams, chunk_ms, seconds=seconds, dialect="v2"), grpc=name == "grpc")
                    if spent.unread or not spent.segments:
                        print(f"  {name} at {chunk_ms} ms could not follow: {spent}")
                    cost[name, chunk_ms].append(spent.cpu_ms)
    heads = ("websocket", "grpc", "grpc / websocket", "us more a message")
    print(f"{'chunk':>9}  " + "".join(f"{head:<23}" for head in heads).rstrip())
    for chunk_ms in CHUNKS_MS:
        websocket, grpc = cost["websocket", chunk_ms], cost["grpc", chunk_ms]
        more = [(g - w) * chunk_ms for g, w in zip(grpc, websocket, strict=True)]
        columns = (websocket, grpc, ratios(grpc, websocket), more)
        print(f"{chunk_ms:>6} ms  " + "".join(f"{spread(column):<23}" for column in columns).rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    main(options.streams, options.rounds, options.seconds)
