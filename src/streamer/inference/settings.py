"""Settings of the engine: its limits, and its handling of failing workers. Every value has a unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamer.errors import ConfigError


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
    max_hung_threads: int = 4
    """Hung threads, which cannot be killed, beyond which no replacement is started."""
    max_output_bytes: int = 1_000_000
    """Maximum JSON of one output."""
    max_partials: int = 1_000
    """Maximum partial answers of a generator for one job, before its final."""

    def __post_init__(self) -> None:
        """Raise ConfigError, naming a value that is not a finite number above 0."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(field=f"engine.{field.name}", expected="a number above 0", got=value)
