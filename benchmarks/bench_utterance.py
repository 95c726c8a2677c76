"""What an utterance costs the server: two facts, a call of the model, a result, over a WebSocket and v1.

Two servers hear the same messages at the same time. In one the scorer says that all is silence, in the other that each
stream speaks once in PERIOD_S; what the second spends more is its utterances'. The model is the stub, the scorer costs
next to nothing, and streams speak as evenly spread over the time as they do in life.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.paced import CpuUsage
from streamer.app import App
from streamer.config import Settings
from streamer.parts import build
from streamer.supervision.ipc import Ready
from streamer.supervision.shutdown import Shutdown
from streamer.supervision.single_process import loop_factory, serve
from streamer.vad.scorer import Row

PERIOD_S = 1.024
WINDOWS = 32
"""Of one period."""
SPEECH = 10
"""Of them; the silence after it is longer than what ends speech."""
LOAD = ("--streams=100", "--chunk-ms=100", "--seconds=5")
"""As many utterances a second as of 400 streams that speak every four."""

Floats = NDArray[np.float32]


class Script:
    """A SpeechScorer that knows beforehand who speaks when."""

    sample_rate, window = 16_000, 512

    def __init__(self, *, talking: bool) -> None:
        period = np.full(WINDOWS, 0.01, np.float32)
        period[:SPEECH] = 0.99 if talking else 0.01
        self._script = np.tile(period, 3)
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
        return [self._next(row, len(samples) // self.window) for row, samples in pending]

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        return np.concatenate([self._next(row, count) for row, count in zip(rows, counts, strict=True)])

    def _next(self, row: Row, count: int) -> Floats:
        at = self._heard[row]
        self._heard[row] = (at + count) % WINDOWS
        return self._script[at : at + count]


async def run(who: str, scoring: str) -> None:
    """A server on a free port, which it prints."""
    settings = Settings(server={"port": 0, "scoring": scoring})
    parts = build(settings)
    parts.scoring._scorer = Script(talking=who == "talking")  # type: ignore[attr-defined]
    with Shutdown() as ending:
        await serve(App(settings, parts=parts), ending, announce)


def announce(ready: Ready) -> None:
    print(ready.url, flush=True)


@contextmanager
def served(who: str, scoring: str) -> Iterator[tuple[str, str]]:
    """The port and the process of a server that is ready; killed afterwards."""
    command = [sys.executable, "-m", "benchmarks.bench_utterance", "--serve", who, "--scoring", scoring]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().rpartition(":")[2], str(process.pid)
        finally:
            process.kill()


def spent(*servers: tuple[str, str]) -> list[float]:
    """CPU ms per stream-second of each under LOAD, all at once."""
    loads = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.paced", *server, *LOAD], stdout=subprocess.PIPE)
        for server in servers
    ]
    return [msgspec.json.decode(load.communicate()[0], type=CpuUsage).cpu_ms for load in loads]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=("talking", "silent"), help="be one of the two servers")
    parser.add_argument("--scoring", choices=("thread", "loop"), help="where speech is scored; both if not said")
    asked = parser.parse_args()
    if asked.serve:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(asked.serve, asked.scoring))
        return
    for scoring in [asked.scoring] if asked.scoring else ["thread", "loop"]:
        with served("talking", scoring) as talking, served("silent", scoring) as silent:
            rounds = [spent(talking, silent) for _ in range(asked.rounds)]
        costs = [(one - other) * PERIOD_S * 1e3 for one, other in rounds]
        most = f"{min(costs):.0f} to {max(costs):.0f}"
        print(f"speech scored on the {scoring}: {statistics.median(costs):.0f} us of CPU an utterance ({most})")


if __name__ == "__main__":
    main()
