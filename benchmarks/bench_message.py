"""What a stream costs inside the process, layer by layer: CPU of all threads, in real time, without sockets.

Streams of speech in messages of 20 ms, as live ones send them. Each line has one layer more than the line before.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.crowd import recording
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.protocols.v1 import V1
from streamer.runtime.conductor import Conductor
from streamer.runtime.driver import Scoring, Services
from streamer.runtime.outbox import OutboxBounds
from streamer.runtime.scoring import ScoringService
from streamer.session.actions import Score
from streamer.session.events import Mode
from streamer.session.messages import Audio
from streamer.session.session import Session
from streamer.session.settings import SessionSettings
from streamer.telemetry.hub import Telemetry
from streamer.telemetry.observer import Observer
from streamer.testing import ScriptedEngine, ScriptedScoring
from streamer.vad.scorer import Row
from streamer.vad.silero import SileroScorer

STREAMS = 200
SECONDS = 2.0
CHUNK_S = 0.020
CHUNK = 640
SLOTS = 10
"""Streams are spread over the time of a message."""
ROUNDS = 3
START = '{"request":"start","format":{"channels":1,"sample_rate":16000,"bit_depth":16,"is_float":false}}'

Floats = NDArray[np.float32]
Feed = Callable[[bytes], None]


def settings() -> SessionSettings:
    return Settings().for_session(Mode.SEGMENTED, model="stub", sample_rate=16_000, stateful=False, max_inflight=4)


class Silent:
    """A scorer that hears nothing, for nothing."""

    window = 512
    sample_rate = 16_000

    def open(self) -> Row:
        return 0

    def close(self, row: Row) -> None: ...

    def reset(self, row: Row) -> None: ...

    def score(self, batch: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        return [np.zeros(len(samples) // 512, np.float32) for _, samples in batch]


class Fed:
    """A transport whose frames come from the benchmark; each wakes its reader, as aiohttp's do."""

    name = "memory"
    peer = "benchmark"
    signs = 0

    def __init__(self) -> None:
        self._frames: deque[str | bytes | None] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, frame: str | bytes | None) -> None:
        self._frames.append(frame)
        if self._waiter is not None:
            self._waiter.set_result(None)
            self._waiter = None

    async def receive(self) -> str | bytes | None:
        if not self._frames:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._frames.popleft()

    async def send(self, frame: str | bytes) -> None: ...

    async def close(self, code: ErrorCode | None, reason: str = "") -> None: ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Layers:
    """What is there above the session."""

    scoring: Callable[[], Scoring]
    observer: Callable[[], Observer]


def sessions_alone() -> list[Feed]:
    """No conductor: scores are answered on the spot."""

    def one() -> Feed:
        session, codec = Session(settings(), "s", 0.0), V1(Mode.SEGMENTED, 16_000)
        session.receive(codec.decode(START), time.monotonic())
        nothing = np.zeros(64, np.float32)

        def feed(data: bytes) -> None:
            for action in session.receive(Audio(data), time.monotonic()):
                if type(action) is Score:
                    session.scored(0, action.first, nothing[: len(action.samples) // 512], time.monotonic())

        return feed

    return [one() for _ in range(STREAMS)]


async def paced(feeds: Sequence[Feed]) -> float:
    """CPU seconds of the process for SECONDS of every stream."""
    audio = recording()
    pieces = [audio[at : at + CHUNK] for at in range(0, len(audio) - CHUNK, CHUNK)]
    began, spent = time.monotonic(), time.process_time()
    for slot in range(round(SECONDS / CHUNK_S) * SLOTS):
        if (ahead := began + slot * CHUNK_S / SLOTS - time.monotonic()) > 0:
            await asyncio.sleep(ahead)
        turn, place = divmod(slot, SLOTS)
        for number in range(place, len(feeds), SLOTS):
            feeds[number](pieces[(number * 7 + turn) % len(pieces)])
    return time.process_time() - spent


async def conducted(layers: Layers) -> float:
    scoring = layers.scoring()
    await scoring.start()
    conductor = Conductor(Services(scoring, ScriptedEngine(), layers.observer()), OutboxBounds())
    transports = [Fed() for _ in range(STREAMS)]
    async with asyncio.TaskGroup() as tasks:
        for transport in transports:
            codec = V1(Mode.SEGMENTED, 16_000)
            tasks.create_task(conductor.run(transport, codec, settings(), measure=len))
            transport.feed(START)
        await asyncio.sleep(0.1)
        spent = await paced([transport.feed for transport in transports])
        for transport in transports:
            transport.feed(None)
    await scoring.stop()
    return spent


LAYERS: dict[str, Layers] = {
    "conductor, scores on the spot": Layers(ScriptedScoring, Observer),
    "scoring service, nothing to score": Layers(lambda: ScoringService(Silent()), Observer),
    "telemetry": Layers(lambda: ScoringService(Silent()), lambda: Telemetry("stub")),
    "the scorer": Layers(lambda: ScoringService(SileroScorer()), lambda: Telemetry("stub")),
}


def main() -> None:
    costs: dict[str, list[float]] = {"the benchmark itself": [], "session": []} | {name: [] for name in LAYERS}
    for _ in range(ROUNDS):
        costs["the benchmark itself"].append(uvloop.run(paced([lambda data: None] * STREAMS)))
        costs["session"].append(uvloop.run(paced(sessions_alone())))
        for name, layers in LAYERS.items():
            costs[name].append(uvloop.run(conducted(layers)))
    print(f"{STREAMS} streams of 16 kHz in messages of 20 ms; CPU ms per stream-second, median of {ROUNDS} rounds")
    for name, spent in costs.items():
        figures = [1e3 * one / STREAMS / SECONDS for one in spent]
        print(f"  {median(figures):5.2f} ({min(figures):.2f} to {max(figures):.2f})  {name}")


if __name__ == "__main__":
    main()
