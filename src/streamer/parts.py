"""The parts of a server: the model's engine, the speech scorer, telemetry, the clock."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from streamer.clock import PauseAwareClock
from streamer.config import ServerSettings, Settings
from streamer.inference.contract import InferenceEngine
from streamer.inference.engine import Engine
from streamer.inference.observer import EngineObservers
from streamer.inference.worker import ModelSource
from streamer.models.loading import ModelSpec
from streamer.runtime.admission import Admission
from streamer.runtime.places import OwnThread
from streamer.runtime.scoring import Batch, Scores, ScoringService
from streamer.runtime.services import Scoring
from streamer.runtime.shared_access import SharedAccess
from streamer.runtime.store import RedisStore
from streamer.session.memory import MemoryPool
from streamer.session.settings import ModelOutput
from streamer.telemetry.hub import Telemetry, worker_observer
from streamer.telemetry.observer import Observer
from streamer.vad.detectors import make_scorer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Properties of the served model; `sample_rate` in Hz."""

    name: str
    sample_rate: int
    stateful: bool
    max_inflight: int
    output: ModelOutput | None = None
    """None for a model that answers without audio."""
    overlap_ms: float = 0.0
    word_times: str = ""
    """See `models.contract.BaseModel`."""
    known_options: tuple[str, ...] = ()
    """See `models.contract.BaseModel`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a server, which tests can replace."""

    engine: InferenceEngine
    scoring: Scoring
    model: ServedModel
    telemetry: Telemetry | None = None
    """None for a new one."""
    clock: PauseAwareClock | None = None
    """None for a new one."""


def build(settings: Settings, source: ModelSource | None = None) -> Parts:
    """Build the parts. Reads the model's attributes without loading it. Raises ModelLoadError or ConfigError.

    `source` replaces the model of the settings.
    """
    listeners = EngineObservers()
    clock = PauseAwareClock()
    engine = Engine(
        source or ModelSpec(settings.server.model, settings.model),
        settings.engine,
        clock=clock,
        observer=listeners,
        worker_observer=worker_observer(os.environ),
        ray=settings.ray,
    )
    card = engine.model
    telemetry = Telemetry(card.name, os.environ)
    listeners.add(telemetry)
    output = ModelOutput(card.output_sample_rate, card.output_channels, card.latency_ms)
    model = ServedModel(
        card.name,
        card.sample_rate,
        card.stateful,
        card.max_inflight,
        output if card.output_sample_rate else None,
        card.overlap_ms,
        card.word_times,
        card.known_options,
    )
    return Parts(engine, _scoring(settings, telemetry), model, telemetry, clock)


def _scoring(settings: Settings, observer: Observer) -> ScoringService:
    scorer = make_scorer(settings.vad, settings.turn)
    in_thread = settings.server.scoring == "thread" or settings.turn.model  # a turn model takes too long for the loop
    beside = OwnThread[Batch, Scores]("speech-scorer") if in_thread else None
    return ScoringService(scorer, place=beside, observer=observer)


def make_shared_access(settings: Settings, clock: PauseAwareClock) -> SharedAccess | None:
    """Return what several servers share through `store.url`; None without it."""
    if not settings.store.url:
        return None
    return SharedAccess(RedisStore(settings.store), settings.store, clock, retry_after_s=settings.server.retry_after_s)


def make_admission(
    server: ServerSettings, engine: InferenceEngine, memory: MemoryPool, store: SharedAccess | None
) -> Admission:
    """Return the admission of sessions. `store`: where the sessions of a subject are counted over all servers."""
    return Admission(
        server.max_sessions,
        engine,
        retry_after_s=server.retry_after_s,
        per_address=server.max_sessions_per_address or math.inf,
        per_subject=server.max_sessions_per_subject or math.inf,
        max_handshakes=server.max_handshakes,
        memory=memory,
        hold=store.hold if store is not None else None,
    )
