"""A connection manager in memory: real session, real codec, scripted scorer and engine, a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from streamer.clock import PauseAwareClock
from streamer.connection.manager import ConnectionManager
from streamer.connection.outbox import OutboxBounds
from streamer.connection.services import Services
from streamer.errors import ErrorCode
from streamer.inference.contract import InferenceEngine
from streamer.protocols.v2 import V2Codec
from streamer.session.actions import Job, JobId, Outcome
from streamer.session.events import Event, Mode
from streamer.session.settings import Limits, SessionSettings
from streamer.session.summary import Summary
from streamer.telemetry.observer import Observer, SessionInfo, SessionObserver
from streamer.testing import ManualClock, MemoryClient, ScriptedEngine, ScriptedScoring, memory_pair

START = json.dumps(
    {"type": "start", "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1}, "chunk_ms": 500}
)
STOP = '{"type":"stop"}'
SECOND = b"\0\0" * 16_000


@dataclass(frozen=True, slots=True)
class ClosedSession:
    summary: Summary
    code: ErrorCode | None
    peer_disconnected: bool


class RecordingObserver(Observer, SessionObserver):
    """Keeps what an observer hears."""

    def __init__(self) -> None:
        self.sessions: list[SessionInfo] = []
        self.events: list[Event] = []
        self.asked_jobs: list[Job] = []
        self.outcomes: list[Outcome] = []
        self.holds = 0
        self.frames_dropped = 0
        self.ends: list[ClosedSession] = []
        self.broke: list[BaseException] = []

    def new_session(self, info: SessionInfo, summary: object, now: float) -> SessionObserver:
        self.sessions.append(info)
        return self

    def unexpected_error(self, where: str, error: BaseException) -> None:
        self.broke.append(error)

    def on_event(self, event: Event, now: float) -> None:
        self.events.append(event)

    def on_job_submitted(self, job: Job, now: float) -> None:
        self.asked_jobs.append(job)

    def on_job_outcome(self, job: JobId, outcome: Outcome, now: float) -> None:
        self.outcomes.append(outcome)

    def on_reading_paused(self, now: float) -> None:
        self.holds += 1

    def on_frames_dropped(self, frames: int, now: float) -> None:
        self.frames_dropped += frames

    def on_close(self, summary: Summary, code: ErrorCode | None, *, peer_disconnected: bool, now: float) -> None:
        self.ends.append(ClosedSession(summary, code, peer_disconnected))


async def turns(count: int = 30) -> None:
    """Let everything that can go on without us do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class InMemoryServer:
    """One server without a network."""

    def __init__(
        self,
        mode: Mode = Mode.SIMPLE,
        *,
        engine: InferenceEngine | None = None,
        bounds: OutboxBounds | None = None,
        limits: Limits | None = None,
        stall_timeout_s: float = 2.0,
        pipe: int = 64,
        observe: Callable[[ManualClock], Observer] | None = None,
        notices_pauses: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.pause_aware = PauseAwareClock(self.clock)
        self.scripted = ScriptedEngine()
        self.engine: InferenceEngine = engine or self.scripted
        self.scoring = ScriptedScoring()
        self.notes = RecordingObserver()
        self.observer = observe(self.clock) if observe else self.notes
        self.settings = SessionSettings(mode, limits=limits or Limits(), stall_timeout_s=stall_timeout_s)
        services = Services(
            self.scoring, self.engine, self.observer, self.pause_aware if notices_pauses else self.clock
        )
        self.manager = ConnectionManager(services, bounds or OutboxBounds())
        if notices_pauses:
            self.pause_aware.on_pause = self.manager.on_process_paused
            self.pause_aware.start()
        self.pipe = pipe
        self.runs: list[asyncio.Task[None]] = []

    def connect(self) -> MemoryClient[str | bytes]:
        client, server = memory_pair(bound=self.pipe)
        codec = V2Codec(self.settings.mode, self.settings.model_sample_rate)
        run = self.manager.run(server, codec, self.settings, measure=len)
        self.runs.append(asyncio.create_task(run))
        return client

    async def over(self) -> None:
        """All connections have ended, and nothing of them is left."""
        await asyncio.gather(*self.runs)
        assert len(self.manager) == 0
        assert not self.scoring.rows
        assert not self.scripted.jobs
        self.pause_aware.stop()
        assert self.clock.timers == 0
        assert len(asyncio.all_tasks()) == 1

    @contextmanager
    def held(self) -> Iterator[None]:
        """The model takes its time."""
        self.scripted.is_holding = True
        yield
        self.scripted.is_holding = False
        self.scripted.release_all()


async def send_all(client: MemoryClient[str | bytes], frames: Sequence[str | bytes]) -> None:
    """Each when there is room for it."""
    for frame in frames:
        await client.send(frame)


async def hear(client: MemoryClient[str | bytes]) -> list[dict[str, Any]]:
    """Everything until the server closes."""
    heard = []
    while (frame := await client.receive()) is not None:
        heard.append(json.loads(frame))
    return heard


async def hear_one(client: MemoryClient[str | bytes]) -> dict[str, Any]:
    frame = await client.receive()
    assert frame is not None
    message: dict[str, Any] = json.loads(frame)
    return message


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if event["type"] != "ack"]
