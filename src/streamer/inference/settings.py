"""Settings of the engine: its limits, and its handling of failing workers. Every value has a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RaySettings:
    """The Ray cluster whose actors run the model, if its executor is `ray`."""

    address: str = "auto"
    """`host:port` of the head's GCS, or `auto`: the Ray node on this machine. The token is Ray's own
    (RAY_AUTH_TOKEN_PATH)."""
    num_gpus: float = 1.0
    """GPUs of each actor; may be a fraction, or 0."""
    num_cpus: float = 1.0
    """CPUs of each actor."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Custom resources of each actor, as {"gpu_node" = 1}."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that may run an actor."""
    namespace: str = "streamer"
    pass_environment: tuple[str, ...] = ("OTEL_*", "OMP_NUM_THREADS")
    """Names of environment variables that actors get from the server; `*` stands for any text."""
    connect_timeout_s: float = 30.0
    """Time-out of the connection to the cluster. Waiting for a free GPU is part of engine.load_timeout_s."""

    def __post_init__(self) -> None:
        """Raise ConfigError, naming a value that is not a finite number of at least 0."""
        numbers = {name: getattr(self, name) for name in ("num_gpus", "num_cpus", "connect_timeout_s")}
        for name, value in (numbers | dict(self.resources)).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(field=f"ray.{name}", expected="a number of at least 0", got=value)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings for every model. The model itself declares batch size, time-outs and memory."""

    max_pending_items: int = 1_000
    """Maximum queued jobs. Beyond it, interims are dropped and new sessions refused; accepted audio is never dropped.
    """
    max_pending_seconds: float = 600.0
    """Maximum seconds of queued audio, with the same consequences."""
    max_expected_wait_s: float = 10.0
    """Maximum expected wait of a job, by recent calls. Beyond it, new sessions are refused."""
    load_timeout_s: float = 300.0
    """Time-out of load() and warm(), in each worker."""
    first_call_timeout_s: float = 300.0
    """Time-out of a worker's first call, on silence, if it is longer than the model's own: first calls may compile."""
    canary_interval_s: float = 10.0
    """Idle time of a worker after which it must pass a health check: an inference of silence."""
    restart_backoff_s: float = 0.5
    """Pause before the second consecutive restart of a worker (the first is immediate). It doubles with each further
    one."""
    max_restart_backoff_s: float = 30.0
    scale_up_wait_s: float = 0.5
    """Expected wait of a job above which a model with a range of workers gets more of them."""
    scale_up_after_s: float = 2.0
    """Time for which that must last."""
    scale_down_after_s: float = 120.0
    """Time for which one worker fewer must suffice until one is let go."""
    max_hung_threads: int = 4
    """Hung threads, which cannot be killed, beyond which no replacement is started."""
    max_output_bytes: int = 1_000_000
    """Maximum JSON of one output."""
    max_partials: int = 1_000
    """Maximum partial answers of a generator for one job, before its final."""

    def __post_init__(self) -> None:
        """Raise ConfigError, naming a value that is not a finite number above 0."""
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(field=f"engine.{each.name}", expected="a number above 0", got=value)
