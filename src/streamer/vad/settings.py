"""Endpointing settings of an operator or a client, validated."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from streamer.errors import BadRequest

_MAX_MS = 600_000.0


@dataclass(frozen=True, slots=True)
class VadConfig:
    """Endpointing rules. Thresholds are probabilities; times are milliseconds.

    Raises BadRequest, naming the field, for thresholds outside [0, 1], a negative threshold above the positive one,
    times that are not finite or not within 0..600 000, or a `max_speech_time_ms` not above `min_speech_time_ms`.
    """

    positive_speech_threshold: float = 0.5
    """A window above it may start speech."""
    negative_speech_threshold: float = 0.35
    """A window below it is silence; between the two, the state does not change."""
    pre_speech_pad_ms: float = 600.0
    """Audio before the first speech window that belongs to the speech."""
    post_speech_pad_ms: float = 0.0
    """Audio after the last voiced window that belongs to the speech."""
    redemption_time_ms: float = 600.0
    """Silence that ends speech."""
    min_speech_time_ms: float = 90.0
    """Shorter speech is discarded as noise."""
    max_speech_time_ms: float = 30_000.0
    """Longer speech is split, without a gap."""

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
    """Settings of the detector: the rules of endpointing, which a client may change for itself, and the detector."""

    detector: str = "silero"
    """silero (speech), energy (sound louder than the noise around it), none (one segment until a flush), or
    package.module:Detector."""


@dataclass(frozen=True, slots=True)
class TurnConfig:
    """The end-of-turn stage. Times in milliseconds.

    Raises BadRequest, naming the field, for a number outside of its range.
    """

    model: str = ""
    """Empty: off. smart_turn (from the installed package pipecat-ai), or the path of an onnx file of Smart Turn v3."""
    after_ms: float = 200.0
    """Silence after which the model is asked; less than vad.redemption_time_ms."""
    threshold: float = 0.5
    """Probability of an end from which on the turn has ended."""
    hold_ms: float = 2_000.0
    """Silence for which a turn that has not ended is kept open; vad.redemption_time_ms counts from then on."""

    def __post_init__(self) -> None:
        for name, high in (("after_ms", 10_000.0), ("threshold", 1.0), ("hold_ms", 60_000.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise BadRequest(field=f"turn.{name}", expected=f"a number from 0 to {high:g}", got=value)
