"""What a message costs on the loop's thread, without a socket and without the network's arithmetic.

`session`: the pure machine alone. `conducted`: codec, connection, session, telemetry and the scoring service, over a
transport in memory. A message that completes no window only costs its append; so the cost of a message and that of a
window are told apart by two lengths of messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
import uvloop
from numpy.typing import NDArray

from streamer.audio.format import AudioFormat, Encoding
from streamer.connection.manager import ConnectionManager
from streamer.connection.outbox import OutboxBounds
from streamer.connection.scoring import ScoringService
from streamer.connection.services import Services
from streamer.connection.transport import FrameSink
from streamer.errors import ErrorCode
from streamer.protocols.v1 import V1Codec
from streamer.session.actions import Score
from streamer.session.events import Mode
from streamer.session.messages import Audio, Start
from streamer.session.session import Session
from streamer.session.settings import SessionSettings
from streamer.telemetry.telemetry import Telemetry
from streamer.testing import ScriptedEngine
from streamer.vad.scorer import Row

WINDOW_MS = 32
SHORT_MS = 2
STREAMS = 200
MESSAGES = 8_000
ROUNDS = 3
SETTINGS = SessionSettings(Mode.SEGMENTED)
START = '{"request":"start","format":{"channels":1,"sample_rate":%d,"bit_depth":16,"is_float":false}}'

Floats = NDArray[np.float32]


def session(rate: int, chunk_ms: int) -> float:
    """CPU us of a message through `receive`, its scores' share of `scored` with it."""
    sessions = [Session(SETTINGS, "s", 0.0) for _ in range(STREAMS)]
    for one in sessions:
        one.receive(Start(AudioFormat(Encoding.PCM_S16LE, rate, 1)), 0.0)
    data = bytes(rate * chunk_ms // 1000 * 2)
    silence = [0.01] * 64
    each = MESSAGES // STREAMS
    began = time.thread_time()
    for turn in range(each):
        for one in sessions:
            for action in one.receive(Audio(data), float(turn)):
                if type(action) is Score:
                    one.on_scores(action.channel, silence[: len(action.samples) // 512], float(turn))
    return (time.thread_time() - began) / (each * STREAMS) * 1e6


class Silence:
    """A SpeechScorer whose thread costs next to nothing."""

    sample_rate, window = 16_000, 512

    def __init__(self) -> None:
        self._opened = 0

    def open(self) -> Row:
        self._opened += 1
        return self._opened

    def close(self, row: Row) -> None: ...

    def reset(self, row: Row) -> None: ...

    def score(self, pending: Sequence[tuple[Row, Floats]]) -> list[Floats]:
        return [np.full(len(samples) // 512, 0.01, np.float32) for _, samples in pending]

    def score_windows(self, rows: Sequence[Row], counts: Sequence[int], windows: Floats) -> Floats:
        return np.full(len(windows), 0.01, np.float32)


class FakeTransport:
    """A transport of one stream: messages come when the benchmark says so, what is sent is dropped."""

    name, peer, control_frames_received = "memory", "benchmark", 0

    def __init__(self, rate: int, chunk_ms: int, count: int) -> None:
        self._text: str | None = START % rate
        self._data = bytes(rate * chunk_ms // 1000 * 2)
        self._left = count
        self._loop = asyncio.get_running_loop()
        self.wakes: asyncio.Future[None] | None = None

    async def receive(self) -> str | bytes | None:
        if self._text is not None:
            text, self._text = self._text, None
            return text
        self.wakes = self._loop.create_future()
        await self.wakes
        self._left -= 1
        return self._data if self._left >= 0 else None

    def set_sink(self, sink: FrameSink[str | bytes] | None) -> None: ...

    async def send(self, frame: str | bytes) -> None: ...

    def send_now(self, frame: str | bytes) -> bool:
        return True

    async def close(self, code: ErrorCode | None, reason: str = "") -> None: ...

    def abort(self) -> None: ...


async def conducted(rate: int, chunk_ms: int) -> float:
    """CPU us of a message on the loop's thread, from the transport to the answered score."""
    scoring = ScoringService(Silence())
    await scoring.start()
    services = Services(scoring, ScriptedEngine(), observer=Telemetry("benchmark"))
    manager = ConnectionManager(services, OutboxBounds())
    each = MESSAGES // STREAMS
    lines = [FakeTransport(rate, chunk_ms, each) for _ in range(STREAMS)]
    tasks = [
        asyncio.create_task(manager.run(line, V1Codec(Mode.SEGMENTED, 16_000), SETTINGS, measure=len)) for line in lines
    ]
    await asyncio.sleep(0.3)
    began = time.thread_time()
    for _ in range(each):
        for line in lines:
            assert line.wakes is not None
            line.wakes.set_result(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0.011)  # the scores of this turn come
    spent = time.thread_time() - began
    for line in lines:
        assert line.wakes is not None
        line.wakes.set_result(None)
    await asyncio.gather(*tasks)
    await scoring.stop()
    return spent / (each * STREAMS) * 1e6


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(ROUNDS))


def report(name: str, measure: Callable[[int, int], float]) -> None:
    short, long = (best(lambda ms=ms: measure(16_000, ms)) for ms in (SHORT_MS, WINDOW_MS))  # type: ignore[misc]
    window = (long - short) / (1 - SHORT_MS / WINDOW_MS)
    print(f"{name}: {long - window:.1f} us a message, {window:.1f} us a window")
    for rate, chunk_ms in ((16_000, 8), (16_000, 20), (16_000, 100), (8_000, 20), (48_000, 20)):
        cost = best(lambda rate=rate, ms=chunk_ms: measure(rate, ms))  # type: ignore[misc]
        print(f"  {rate:>6} Hz, {chunk_ms:>3} ms: {cost:6.1f} us a message, {cost / chunk_ms:.2f} ms a stream-second")


def main() -> None:
    print(f"{STREAMS} streams, best of {ROUNDS}")
    report("session", session)
    report("conducted", lambda rate, ms: uvloop.run(conducted(rate, ms)))


if __name__ == "__main__":
    main()
