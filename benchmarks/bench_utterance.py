"""What an utterance costs the server: two facts, a call of the model, a result, over a WebSocket and v1.

Two servers hear the same messages. In one the scorer says that all is silence, in the other that each stream speaks
once in PERIOD_S; what the second spends more is its utterances'. The model is the stub, the scorer costs nothing, and
streams speak as evenly spread over the time as they do in life.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.paced import Load, Spent
from streamer.app import App, build
from streamer.config import Settings
from streamer.runtime.control import Ready
from streamer.runtime.places import OnTheLoop
from streamer.runtime.scoring import ScoringService
from streamer.serving.ending import Ending
from streamer.serving.loop import loop_factory
from streamer.serving.server import serve
from streamer.vad.scorer import Row

PERIOD_S = 1.024
WINDOWS = 32
"""Of one period."""
SPEECH = 10
"""Of them; the silence after it is longer than what ends speech."""
LOAD = Load(streams=200, chunk_ms=100, seconds=5.0)
"""As many utterances a second as 400 streams have that speak every four."""

Floats = NDArray[np.float32]


class Script:
    """A SpeechScorer that knows beforehand who speaks when."""

    sample_rate, window = 16_000, 512

    def __init__(self, *, talking: bool) -> None:
        one = np.full(WINDOWS, 0.01, np.float32)
        one[:SPEECH] = 0.99 if talking else 0.01
        self._script = np.tile(one, 4)
        self._heard: dict[Row, int] = {}
        self._opened = 0

    def open(self) -> Row:
        self._opened += 1
        self._heard[self._opened] = self._opened * 7 % WINDOWS
        return self._opened

    def close(self, row: Row) -> None:
        del self._heard[row]

    def reset(self, row: Row) -> None: ...

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        raise NotImplementedError

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        return np.concatenate([self._next(row, count) for row, count in zip(rows, counts, strict=True)])

    def _next(self, row: Row, count: int) -> Floats:
        at = self._heard[row]
        self._heard[row] = (at + count) % WINDOWS
        return self._script[at : at + count]


async def run(*, talking: bool) -> None:
    """A server on a free port, which it prints."""
    settings = Settings(server={"port": 0})
    parts = build(settings)
    scoring = ScoringService(Script(talking=talking), place=OnTheLoop(), observer=parts.telemetry)
    with Ending() as ending:
        await serve(App(settings, parts=replace(parts, scoring=scoring)), ending, announce)


def announce(ready: Ready) -> None:
    print(ready.url, flush=True)


@contextmanager
def served(who: str) -> Iterator[tuple[str, str]]:
    """The port and the process of a server that is ready; killed afterwards."""
    command = [sys.executable, "-m", "benchmarks.bench_utterance", "--serve", who]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().rpartition(":")[2], str(process.pid)
        finally:
            process.kill()


def spent(server: tuple[str, str]) -> float:
    """CPU ms per stream-second under LOAD."""
    flags = [f"--streams={LOAD.streams}", f"--chunk-ms={LOAD.chunk_ms}", f"--seconds={LOAD.seconds}"]
    command = [sys.executable, "-m", "benchmarks.paced", *server, *flags]
    return msgspec.json.decode(subprocess.check_output(command), type=Spent).cpu_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=("talking", "silent"), help="be one of the two servers")
    asked = parser.parse_args()
    if asked.serve:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(talking=asked.serve == "talking"))
        return
    with served("silent") as silent, served("talking") as talking:
        rounds = [(spent(talking) - spent(silent)) * PERIOD_S * 1e3 for _ in range(asked.rounds)]
    print(f"an utterance: {statistics.median(rounds):.0f} us of CPU ({min(rounds):.0f} to {max(rounds):.0f})")


if __name__ == "__main__":
    main()
