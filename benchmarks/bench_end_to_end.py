"""CPU per second of a stream: our server beside the plain one, and beside the least that is possible.

Real processes, real sockets, paced streams of speech. The servers take turns, round after round, so that a noisy
neighbour meets all of them; a ratio is made of two turns that follow each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import msgspec

from benchmarks.paced import SETTLE_S, Load
from benchmarks.servers import Server, running
from streamer.build import compiled

ROUNDS = 3
SECONDS = 2.0
STREAMS = 400
PLAIN_STREAMS = 50
"""What the plain server carries on one core with the smallest chunks; its cost per stream does not fall with more."""
LATE_MS = 50.0
"""A generator that is later than this makes another load than the one asked for."""
UTTERANCES_PER_S = 2 / 7
"""Of the recording, in a loop."""
SILENCE_S = 0.6
"""That ends one."""
LAG_S = 0.5
"""A server that falls further behind within a turn does not keep up."""

SERVERS = ("ours", "ours with a thread", "plain", "floor")
"""Streamer twice: speech scored on the event loop, as by default, and on a thread of its own."""

Point = tuple[int, int]
"""Hz, ms of a message."""
POINTS: tuple[Point, ...] = ((16_000, 8), (16_000, 20), (16_000, 100), (8_000, 20), (48_000, 20))


def spread(values: list[float]) -> str:
    return f"{median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def measure(points: Sequence[Point], streams: int, rounds: int, seconds: float) -> dict[Point, list[list[float]]]:
    """The turns that count at each point."""
    turns: dict[Point, list[list[float]]] = {at: [] for at in points}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(name)) for name in SERVERS}
        for number in range(1, rounds + 1):
            for rate, chunk_ms in points:
                print(f"  round {number} of {rounds}, {rate} Hz, {chunk_ms} ms:", end="", flush=True)
                if costs := turn(servers, Load(streams, chunk_ms, rate, seconds)):
                    turns[rate, chunk_ms].append(costs)
                print()
    return turns


def turn(servers: Mapping[str, Server], load: Load) -> list[float]:
    """CPU ms per stream-second of each server.

    Empty where one could not follow: others may have had the machine, so no figure of this turn means anything.
    """
    costs = []
    for name, server in servers.items():
        its_load = msgspec.structs.replace(load, streams=PLAIN_STREAMS) if name == "plain" else load
        spent = server.under(its_load)
        print(f"  {name} {spent.cpu_ms:.2f}", end="", flush=True)
        if spent.late_ms > LATE_MS:
            print(f" (the generator was late by up to {spent.late_ms:.0f} ms)", end="")
        expected = 0.0 if name == "floor" else answers_due(its_load)
        if spent.unread or spent.segments < expected:
            print(f" did not keep up ({spent.segments} answers, {expected:.0f} were due): not counted", end="")
            return []
        costs.append(spent.cpu_ms)
    return costs


def answers_due(load: Load) -> float:
    """The answers that a server has given which is not more than LAG_S behind: each utterance's when it has ended."""
    return load.streams * UTTERANCES_PER_S * (SETTLE_S + load.seconds - SILENCE_S - LAG_S)


def main(
    points: Sequence[Point] = POINTS, streams: int = STREAMS, rounds: int = ROUNDS, seconds: float = SECONDS
) -> None:
    print(f"CPU ms per stream-second: ours and the floor with {streams} streams, the plain server with {PLAIN_STREAMS}")
    print(
        "ours is compiled" if compiled() else "ours is not compiled: make compiled, then with PYTHONPATH=build/compiled"
    )
    turns = measure(points, streams, rounds, seconds)
    print(f"median of up to {rounds} turns of {seconds:g} s (least to most); speech scored on the loop, on a thread")
    heads = ("ours", "plain / ours", "thread", "plain / thread", "plain", "floor", "ours / floor")
    print(f"{'rate':>6}{'chunk':>8}  " + "".join(f"{head:<23}" for head in heads).rstrip())
    for (rate, chunk_ms), counted in turns.items():
        if counted:
            loop, thread, plain, floor = (list(costs) for costs in zip(*counted, strict=True))
            columns = (loop, ratios(plain, loop), thread, ratios(plain, thread), plain, floor, ratios(loop, floor))
            row = "".join(f"{spread(column):<23}" for column in columns)
        else:
            row = "not carried: no turn was counted"
        print(f"{rate:>6}{chunk_ms:>5} ms  {row}".rstrip())


def point(text: str) -> Point:
    rate, chunk_ms = text.split(":")
    return int(rate), int(chunk_ms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("points", nargs="*", type=point, metavar="RATE:CHUNK_MS", help="16000:20 and such; all if none")
    parser.add_argument("--streams", type=int, default=STREAMS, help="of ours and the floor (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    options = parser.parse_args()
    main(options.points or POINTS, options.streams, options.rounds, options.seconds)
