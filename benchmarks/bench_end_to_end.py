"""CPU per second of a stream: our server beside the plain one, and beside the least that is possible.

Real processes, real sockets, paced streams of speech. The servers take turns, round after round, so that a noisy
neighbour meets all of them; a ratio is made of two turns that follow each other.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from contextlib import ExitStack
from statistics import median

from benchmarks.paced import Load, Spent
from benchmarks.servers import running

ROUNDS = 3
SECONDS = 2.0
STREAMS = 200
MANY = 400
PLAIN_STREAMS = 50
"""What the plain server carries on one core with the smallest chunks; its cost per stream does not fall with more."""

TURN = {"ours": STREAMS, "ours on the loop": STREAMS, "plain": PLAIN_STREAMS, "floor": STREAMS}
"""Streamer twice: speech scored on a thread of its own (the default of one process), and on the event loop."""
MANY_OF = ("ours", "ours on the loop")

Points = tuple[tuple[int, int], ...]
POINTS: Points = ((16_000, 8), (16_000, 20), (16_000, 100), (8_000, 20), (48_000, 20))
"""Hz, ms of a message."""
AT_MANY: Points = ((16_000, 20), (16_000, 100))


def spread(values: list[float]) -> str:
    return f"{median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def measure(points: Points, rounds: int, seconds: float) -> dict[tuple[str, int, int], list[float]]:
    """CPU ms per stream-second by (label, rate, chunk_ms), one figure a round.

    Where a server could not follow, because others had the machine, no figure of that turn means anything: all go.
    """
    cost: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name)) for name in TURN}
        for _ in range(rounds):
            for rate, chunk_ms in points:
                turn = {name: Load(streams, chunk_ms, rate, seconds) for name, streams in TURN.items()}
                spent = {name: servers[name].under(load) for name, load in turn.items()}
                if not all(followed(name, turn[name], spent[name]) for name in turn):
                    print(f"  a turn at {rate} Hz, {chunk_ms} ms is not counted: a server did not keep up")
                    continue
                for name in turn:
                    cost[name, rate, chunk_ms].append(spent[name].cpu_ms)
                if (rate, chunk_ms) in AT_MANY:
                    crowd = Load(MANY, chunk_ms, rate, seconds)
                    for name in MANY_OF:
                        many = servers[name].under(crowd)
                        if followed(name, crowd, many):
                            cost[f"{name}, {MANY}", rate, chunk_ms].append(many.cpu_ms)
    return cost


def followed(name: str, load: Load, spent: Spent) -> bool:
    """The recording has two utterances in 7 s; a server that keeps up has answered for at least half of them."""
    return not spent.unread and (name == "floor" or spent.segments >= load.streams * load.seconds / 7)


def main(points: Points = POINTS, rounds: int = ROUNDS, seconds: float = SECONDS) -> None:
    print(f"CPU ms per stream-second, median of up to {rounds} turns (least to most) of {seconds} s")
    print(f"ours and the floor with {STREAMS} streams, the plain server with {PLAIN_STREAMS}")
    cost = measure(points, rounds, seconds)
    heads = ("ours", "plain / ours", "on the loop", "plain / it", "plain", "floor", "it / floor")
    print(f"{'rate':>6}{'chunk':>8}  " + "".join(f"{head:<22}" for head in heads))
    for rate, chunk_ms in points:
        ours, loop, plain, floor = (cost[name, rate, chunk_ms] for name in TURN)
        if not ours:
            continue
        columns = (ours, ratios(plain, ours), loop, ratios(plain, loop), plain, floor, ratios(loop, floor))
        print(f"{rate:>6}{chunk_ms:>5} ms  " + "".join(f"{spread(column):<22}" for column in columns))
    for rate, chunk_ms in AT_MANY:
        for name in MANY_OF:
            if many := cost.get((f"{name}, {MANY}", rate, chunk_ms)):
                print(f"{name} with {MANY} streams, {rate} Hz, {chunk_ms} ms: {spread(many)}")


def point(text: str) -> tuple[int, int]:
    rate, chunk_ms = text.split(":")
    return int(rate), int(chunk_ms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", type=point, metavar="RATE:CHUNK_MS", help="16000:20 and such; all if none")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    main(tuple(options.points) or POINTS, options.rounds, options.seconds)
