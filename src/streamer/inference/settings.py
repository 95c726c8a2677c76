"""What the engine lives under: its bounds, and how it treats workers that misbehave. Every value has a unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The same for every model; what depends on the model (batch size, timeouts, memory) is declared by the model."""

    max_pending_items: int = 1_000
    """Jobs that may wait. Past it interims are shed and new sessions refused; accepted audio is never dropped."""
    max_pending_seconds: float = 600.0
    """Seconds of audio that may wait; the same consequences."""
    max_expected_wait_s: float = 10.0
    """How long a job may be expected to wait, by the pace of late, before new sessions are refused."""
    load_timeout_s: float = 300.0
    """For load() and the first call on silence, in each worker."""
    canary_interval_s: float = 10.0
    """A worker at rest for so long is asked to answer for silence."""
    restart_backoff_s: float = 0.5
    """Pause before the second restart of a worker in a row (the first is immediate); each further one doubles it."""
    max_restart_backoff_s: float = 30.0
    max_hung_threads: int = 4
    """Threads that hang and cannot be killed, beyond which no replacement is started."""
    max_output_bytes: int = 1_000_000
    """JSON of one output."""
    max_partials: int = 1_000
    """Partial answers that a generator may give for one job, before its final."""

    def __post_init__(self) -> None:
        """Raises ConfigError naming a value that is not a finite number above 0."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(field=f"engine.{field.name}", expected="a number above 0", got=value)
