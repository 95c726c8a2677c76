"""When speech begins and ends: the numbers an operator or a client chooses, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamer.errors import BadRequest

_MAX_MS = 600_000.0


@dataclass(frozen=True, slots=True)
class VadConfig:
    """When speech begins and ends. Thresholds are probabilities; times are milliseconds.

    Raises BadRequest, naming the field, for thresholds outside [0, 1], a negative threshold above the positive one,
    times that are not finite or not within 0..600 000, or a `max_speech_time_ms` not above `min_speech_time_ms`.
    """

    positive_speech_threshold: float = 0.5
    """A window above it may open speech."""
    negative_speech_threshold: float = 0.35
    """A window below it is silence; between the two nothing changes."""
    pre_speech_pad_ms: float = 600.0
    """Audio before the opening window that belongs to the speech."""
    post_speech_pad_ms: float = 0.0
    """Audio after the last voiced window that belongs to the speech."""
    redemption_time_ms: float = 600.0
    """Silence that ends speech."""
    min_speech_time_ms: float = 90.0
    """A candidate shorter than this was a noise."""
    max_speech_time_ms: float = 30_000.0
    """Longer speech is cut here, without a gap."""

    def __post_init__(self) -> None:
        for field in fields(VadConfig):
            value, high = getattr(self, field.name), _MAX_MS if field.name.endswith("_ms") else 1.0
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise BadRequest(field=f"vad.{field.name}", expected="a number", got=value)
            if not 0.0 <= value <= high:
                raise BadRequest(field=f"vad.{field.name}", expected=f"a number from 0 to {high:g}", got=value)
        if self.negative_speech_threshold > self.positive_speech_threshold:
            raise BadRequest(
                field="vad.negative_speech_threshold",
                expected=f"at most positive_speech_threshold ({self.positive_speech_threshold:g})",
                got=self.negative_speech_threshold,
            )
        if self.max_speech_time_ms <= self.min_speech_time_ms:
            raise BadRequest(
                field="vad.max_speech_time_ms",
                expected=f"more than min_speech_time_ms ({self.min_speech_time_ms:g})",
                got=self.max_speech_time_ms,
            )


@dataclass(frozen=True, slots=True)
class VadSection(VadConfig):
    """What an operator sets of the detector: its endpointing, which a client may change for itself, and which it is."""

    detector: str = "silero"
    """silero (speech), energy (what is louder than the noise around it), none (one segment until a flush), or
    package.module:Detector."""
