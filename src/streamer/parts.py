"""The parts of a server: the model's engine, the speech scorer, telemetry, the clock."""

from __future__ import annotations

import os
from dataclasses import dataclass

from streamer.clock import PauseAwareClock
from streamer.config import Settings
from streamer.inference.contract import InferenceEngine
from streamer.inference.engine import Engine
from streamer.inference.observer import EngineObservers
from streamer.models.loading import ModelSpec
from streamer.runtime.places import OwnThread
from streamer.runtime.scoring import Batch, Scores, ScoringService
from streamer.runtime.services import Scoring
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
    word_times: str = ""
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


def build(settings: Settings) -> Parts:
    """Build the parts. Reads the model's attributes without loading it. Raises ModelLoadError or ConfigError."""
    listeners = EngineObservers()
    clock = PauseAwareClock()
    engine = Engine(
        ModelSpec(settings.server.model, settings.model),
        settings.engine,
        clock=clock,
        observer=listeners,
        worker_observer=worker_observer(os.environ),
    )
    card = engine.model
    telemetry = Telemetry(card.name, os.environ)
    listeners.add(telemetry)
    model = ServedModel(card.name, card.sample_rate, card.stateful, card.max_inflight, card.word_times)
    return Parts(engine, _scoring(settings, telemetry), model, telemetry, clock)


def _scoring(settings: Settings, observer: Observer) -> ScoringService:
    scorer = make_scorer(settings.vad, settings.turn)
    in_thread = settings.server.scoring == "thread" or settings.turn.model  # a turn model takes too long for the loop
    beside = OwnThread[Batch, Scores]("speech-scorer") if in_thread else None
    return ScoringService(scorer, place=beside, observer=observer)
