"""One run: a server, its model and its clients from one seed, to the last task."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from streamer.audio.deferred_decoder import AudioSamples, decode_samples
from streamer.config import DrainSettings
from streamer.connection.admission import Admission
from streamer.connection.lifecycle import Lifecycle
from streamer.connection.manager import ConnectionManager
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.errors import StreamerError
from streamer.inference.engine import Engine
from streamer.inference.settings import EngineSettings
from streamer.inference.workers import WorkerOwner
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.settings import AudioOutSettings, Limits, ModelOutput, SessionSettings
from streamer.testing import memory_pair
from streamer.testing.fakes import loudness
from streamer.vad.scorer import Row
from tests.simulation.client import Client
from tests.simulation.loop import VirtualClock, VirtualLoop
from tests.simulation.model import SimulatedWorker, Source, Temper

SAMPLE_RATE = 16_000


@dataclass(slots=True)
class Score:
    """What a run did."""

    sessions: int = 0
    streams: int = 0
    events: int = 0
    refused: int = 0
    virtual_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def add(self, other: Score) -> None:
        self.sessions += other.sessions
        self.streams += other.streams
        self.events += other.events
        self.refused += other.refused
        self.virtual_s += other.virtual_s
        self.faults += other.faults
        self.ends += other.ends


class SimulatedScoring:
    """The speech scorer with the delays of a thread and of company; what is loud is speech."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next: Row = 0
        self.rows: dict[Row, Callable[[Sequence[float]], None]] = {}

    def open(self, deliver: Callable[[Sequence[float]], None]) -> Row:
        self._next += 1
        self.rows[self._next] = deliver
        return self._next

    def close(self, row: Row) -> None:
        del self.rows[row]

    def reset(self, row: Row) -> None:
        assert row in self.rows

    def submit(self, row: Row, samples: AudioSamples) -> None:
        assert row in self.rows
        asyncio.get_running_loop().call_later(self._rng.uniform(0, 0.03), self._answer, row, samples)

    def _answer(self, row: Row, samples: AudioSamples) -> None:
        if row in self.rows:
            self.rows[row](loudness(decode_samples(samples)).tolist())


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.score = Score()
        self._temper = rng.choice(
            [
                Temper(),
                Temper(per_call_s=0.3, per_item_s=0.1),
                Temper(error=0.1, partial=0.3),
                Temper(crash=0.05, error=0.02),
                Temper(crash=0.03, hang=0.03, error=0.03, partial=0.1),
                Temper(per_call_s=2.0),
                Temper(audio=1.0, partial=0.5),
                Temper(audio=1.0, per_call_s=0.2, error=0.05, crash=0.02),
                Temper(audio=0.95, partial=0.5, error=0.05, crash=0.02, hang=0.01),
            ]
        )
        self._clients = rng.choice([1, 5, 20, 40])
        self._drains = rng.random() < 0.3

    def run(self) -> Score:
        """Play it out. AssertionError where a promise is broken."""
        random.seed(self.rng.random())  # the connection manager shuffles by the module's own dice
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(self._play())
        return self.score

    async def _play(self) -> None:
        rng, loop = self.rng, asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        faults: list[str] = []
        source = Source(rng.choice([1, 4, 16]), rng.choice([1, 2]), rng.choice([0, 0, 8]))
        bounds = EngineSettings(max_pending_items=rng.choice([20, 1_000]), max_pending_seconds=rng.choice([60, 3_600]))
        spawn = partial(self._spawn, rng=rng, faults=faults)
        clock = VirtualClock(loop)
        engine = Engine(source, bounds, clock=clock, log=_quiet(), spawn=spawn)
        await engine.start()
        scoring = SimulatedScoring(rng)
        services = Services(scoring, engine, clock=clock)
        ids = iter(range(10**9))
        manager = ConnectionManager(services, OutboxBounds(), new_id=lambda: f"s{next(ids)}")
        admission = Admission(rng.choice([10, 1_000]), engine, retry_after_s=1.0)
        lifecycle = Lifecycle(admission, manager, engine)
        lifecycle.set_ready()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._clients):
                tasks.create_task(self._session(manager, admission))
            if self._drains:
                tasks.create_task(self._drain(lifecycle))
        await manager.wait_empty()
        await asyncio.sleep(30)  # workers come back, nothing is left running
        self._check_nothing_is_left(engine, scoring, manager, admission)
        await engine.stop(1.0)
        self.score.virtual_s = loop.time()
        self.score.faults.update(faults)

    def _spawn(self, name: str, owner: WorkerOwner, rng: random.Random, faults: list[str]) -> SimulatedWorker:
        return SimulatedWorker(name, owner, self._temper, rng, faults)

    async def _session(self, manager: ConnectionManager, admission: Admission) -> None:
        rng = random.Random(self.rng.random())
        await asyncio.sleep(rng.uniform(0, 20))
        mode = rng.choice(list(Mode))
        try:
            with admission.acquire():
                client_end, server_end = memory_pair(bound=rng.choice([1, 8, 64]))
                has_audio = self._temper.audio > 0
                client = Client(client_end, mode, rng, has_audio=has_audio)
                settings = SessionSettings(
                    mode,
                    limits=Limits(max_model_failures=rng.choice([3, 1_000])),
                    model_output=ModelOutput(SAMPLE_RATE) if has_audio else None,
                    audio_out=AudioOutSettings(max_unsent_s=rng.choice([1.0, 60.0])),
                )
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(client.run())
                    await manager.run(server_end, V2Codec(mode, SAMPLE_RATE), settings, measure=len)
                self.score.sessions += 1
                self.score.streams += client.streams
                self.score.events += client.events
                self.score.ends[_end(client_end.close_info)] += 1
        except StreamerError:
            self.score.refused += 1

    async def _drain(self, lifecycle: Lifecycle) -> None:
        await asyncio.sleep(self.rng.uniform(1, 30))
        self.score.faults["drain"] += 1
        times = DrainSettings(lag_s=0.5, soft_s=self.rng.choice([0.5, 5.0]), spread_s=1.0, hard_s=60.0)
        left = await lifecycle.drain(times, lag_s=times.lag_s)
        self.score.ends["cut off by the drain"] += left

    def _check_nothing_is_left(
        self, engine: Engine, scoring: SimulatedScoring, manager: ConnectionManager, admission: Admission
    ) -> None:
        depth = engine.depth
        assert (depth.pending_items, depth.running_items, depth.pending_seconds) == (0, 0, 0), depth
        assert engine.readiness.ready, engine.readiness.reason
        assert not scoring.rows
        assert len(manager) == admission.active == 0
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, others


def _end(goodbye: object) -> str:
    if goodbye is None:
        return "client left"
    if getattr(goodbye, "aborted", False):
        return "aborted"
    code = getattr(goodbye, "code", None)
    return str(code) if code else "normal"


def _quiet() -> logging.Logger:
    logger = logging.getLogger("tests.simulation")
    logger.disabled = True
    return logger
