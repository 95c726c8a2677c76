"""The parts of a server: the model's engine, the speech scorer, telemetry, the clock."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock

from streamer.clock import PauseAwareClock
from streamer.config import ServerSettings, Settings
from streamer.connection.admission import Admission
from streamer.connection.executors import ThreadExecutor
from streamer.connection.hosted_model import HostedModel
from streamer.connection.model_pool import ModelPool, load_router
from streamer.connection.scoring import ScoreBatch, Scores, ScoringService
from streamer.connection.services import Scoring
from streamer.connection.shared_access import SharedAccess
from streamer.connection.shared_store import RedisStore
from streamer.errors import ModelLoadError
from streamer.inference.contract import InferenceEngine, ModelBackend
from streamer.inference.engine import Engine
from streamer.inference.model_config import ModelConfig
from streamer.inference.model_runner import ModelSource
from streamer.inference.observer import EngineObservers
from streamer.models.loading import ModelSpec
from streamer.protocols.opening import Opening
from streamer.session.memory import MemoryPool
from streamer.session.settings import ModelOutput, SessionSettings
from streamer.telemetry.observer import Observer
from streamer.telemetry.telemetry import Telemetry, worker_observer
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

    @classmethod
    def of(cls, card: ModelConfig, name: str = "") -> ServedModel:
        """Return the properties of a model. `name`: its name among several; empty for its own."""
        output = ModelOutput(card.output_sample_rate, card.output_channels, card.latency_ms)
        return cls(
            name or card.name,
            card.sample_rate,
            card.stateful,
            card.max_inflight,
            output if card.output_sample_rate else None,
            card.overlap_ms,
            card.word_times,
            card.known_options,
        )

    def applied_to(self, settings: SessionSettings) -> SessionSettings:
        """Return the settings of sessions for this model."""
        return replace(
            settings,
            model=self.name,
            model_sample_rate=self.sample_rate,
            stateful=self.stateful,
            max_inflight=self.max_inflight,
            model_output=self.output,
            overlap_ms=self.overlap_ms,
        )


@dataclass(frozen=True, slots=True)
class AppParts:
    """Parts of a server, which tests can replace."""

    engine: InferenceEngine
    scoring: Scoring
    model: ServedModel
    telemetry: Telemetry | None = None
    """None for a new one."""
    clock: PauseAwareClock | None = None
    """None for a new one."""
    models: ModelPool | None = None
    """Several models, of which `engine` and `model` are the default one; None for one model."""
    served: Mapping[str, ServedModel] = field(default_factory=dict)
    """Several models by name."""

    @property
    def backend(self) -> ModelBackend:
        """The model, or all of several."""
        return self.models or self.engine

    def model_of(self, opening: Opening, name: str = "") -> ServedModel:
        """Return the model of a request: that of its name if it has one, otherwise the router's choice or the default.

        `name`: from the path, the metadata or a parameter of the request. A server with one model has it for every
        name. The result's name belongs into `Accepted.model`. Raises UnknownModel, and the router's StreamerErrors.
        """
        return self.model if self.models is None else self.served[self.models.of_request(opening, name).name]


def build(settings: Settings, source: ModelSource | None = None) -> AppParts:
    """Build the parts. Reads the models' attributes without loading them. Raises ModelLoadError or ConfigError.

    `source` replaces the model of the settings.
    """
    if settings.models and source is None:
        return _build_several(settings)
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
    telemetry = Telemetry(engine.model.name, os.environ)
    listeners.add(telemetry)
    return AppParts(engine, _scoring(settings, telemetry), ServedModel.of(engine.model), telemetry, clock)


def _build_several(settings: Settings) -> AppParts:
    clock = PauseAwareClock()
    telemetry = Telemetry(settings.default_model, os.environ, models=tuple(settings.models))
    served: dict[str, ServedModel] = {}
    hosted: list[HostedModel] = []
    building = Lock()
    for name, section in settings.models.items():
        spec = ModelSpec(section.model, section.parameters, f"models.{name}")
        served[name] = model = ServedModel.of(_card(name, spec), name)
        engine_settings = section.engine_settings(name, settings.engine)
        engine = partial(
            Engine,
            spec,
            engine_settings,
            clock=clock,
            observer=telemetry.of_model(name),
            worker_observer=worker_observer(os.environ),
            log=logging.getLogger(f"streamer.inference.{name}"),
            ray=settings.ray,
        )
        hosted.append(
            HostedModel(
                name,
                section,
                engine_settings,
                partial(_one_at_a_time, building, engine),
                clock,
                retry_after_s=settings.server.retry_after_s,
                applied_to=model.applied_to,
            )
        )
    router = load_router(settings.server.router) if settings.server.router else None
    pool = ModelPool(hosted, settings.default_model, router)
    telemetry.watch_models(hosted)
    default = served[settings.default_model]
    return AppParts(pool.default, _scoring(settings, telemetry), default, telemetry, clock, pool, served)


def _one_at_a_time(building: Lock, make: Callable[[], Engine]) -> Engine:
    """Return a new engine. Two sections may name the same instance of a model, whose attributes each of them sets."""
    with building:
        return make()


def _card(name: str, spec: ModelSpec) -> ModelConfig:
    """Return the attributes of a model, which is built for that and not kept."""
    try:
        return ModelConfig.of(spec.load())
    except ModelLoadError as error:
        raise ModelLoadError(f"models.{name}: {error.message}", detail=error.detail) from error


def _scoring(settings: Settings, observer: Observer) -> ScoringService:
    scorer = make_scorer(settings.vad, settings.turn)
    in_thread = settings.server.scoring == "thread" or settings.turn.model  # a turn model takes too long for the loop
    beside = ThreadExecutor[ScoreBatch, Scores]("speech-scorer") if in_thread else None
    return ScoringService(scorer, executor=beside, observer=observer)


def make_shared_access(settings: Settings, clock: PauseAwareClock) -> SharedAccess | None:
    """Return what several servers share through `store.url`; None without it."""
    if not settings.store.url:
        return None
    return SharedAccess(RedisStore(settings.store), settings.store, clock, retry_after_s=settings.server.retry_after_s)


def make_admission(
    server: ServerSettings, parts: AppParts, memory: MemoryPool, store: SharedAccess | None
) -> Admission:
    """Return the admission of sessions. `store`: where the sessions of a subject are counted over all servers."""
    return Admission(
        server.max_sessions,
        parts.backend,
        retry_after_s=server.retry_after_s,
        per_address=server.max_sessions_per_address or math.inf,
        per_subject=server.max_sessions_per_subject or math.inf,
        max_handshakes=server.max_handshakes,
        memory=memory,
        hold=store.hold if store is not None else None,
        models=parts.models,
    )
