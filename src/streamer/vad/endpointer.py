"""From window probabilities to the start and end of speech: a pure machine over integer sample positions."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import Enum

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
        for field in fields(self):
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
class SpeechStarted:
    """Speech opened at sample `start`."""

    start: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Speech covered samples [start, end)."""

    start: int
    end: int


class _State(Enum):
    IDLE = "idle"
    CANDIDATE = "candidate"
    SPEECH = "speech"


_IDLE, _CANDIDATE, _SPEECH = _State
Boundaries = list[SpeechStarted | SpeechEnded]


class Endpointer:
    """Speech boundaries of one channel. Positions count samples at `sample_rate` from the first push.

    The rules are those of the silero crate's VadSession (two thresholds with hysteresis, redemption), with a bound on
    the length of speech added.
    """

    def __init__(self, config: VadConfig, sample_rate: int) -> None:
        def samples(ms: float) -> int:
            return round(ms * sample_rate / 1000)

        self._opens_above = config.positive_speech_threshold
        self._silent_below = config.negative_speech_threshold
        self._pre = samples(config.pre_speech_pad_ms)
        self._post = samples(config.post_speech_pad_ms)
        self._redemption = samples(config.redemption_time_ms)
        self._min = samples(config.min_speech_time_ms)
        self._max = max(1, samples(config.max_speech_time_ms))
        self._state = _IDLE
        self._start = self._speech = self._silence = self._last_end = 0
        self.position = 0
        """Samples pushed so far."""

    @property
    def speaking(self) -> bool:
        """Whether a SpeechStarted still waits for its SpeechEnded."""
        return self._state is _SPEECH

    @property
    def speech_start(self) -> int:
        """Where the open speech began; meaningful while `speaking`."""
        return self._start

    @property
    def needed_from(self) -> int:
        """The first sample that may still belong to speech not yet ended; older audio can be forgotten."""
        if self._state is _IDLE:
            return max(self.position - self._pre, self._last_end)
        return self._start

    def push(self, samples: int, probability: float) -> Boundaries:
        """Take the next window of `samples` samples with its speech probability."""
        window_start = self.position
        self.position = position = window_start + samples
        silent = probability < self._silent_below
        self._silence = self._silence + samples if silent else 0
        if self._state is _IDLE:
            if probability > self._opens_above:
                self._state = _CANDIDATE
                self._start = max(window_start - self._pre, self._last_end)
                self._speech = 0
            return []
        self._speech += samples
        if self._state is _CANDIDATE:
            if self._speech > self._min:
                self._state = _SPEECH
                return [SpeechStarted(self._start)]
            if silent:
                self._state = _IDLE
            return []
        if not silent:
            return self._cut(position) if position - self._start > self._max else []
        if self._silence > self._redemption:
            return self._end(min(position - self._silence + self._post, position))
        return []

    def finish(self) -> Boundaries:
        """The audio ends here (a stop, a flush, a stall): open speech ends with it. More may be pushed after."""
        if self._state is _SPEECH:
            return self._end(self.position)
        self._state = _IDLE
        return []

    def _cut(self, end: int) -> list[SpeechStarted | SpeechEnded]:
        """Pieces of `max_speech_time` off the front of speech that goes on to `end`. What remains is not empty.

        Silence alone does not cut: whether it belongs to the speech is only known when a voiced window comes, or
        `redemption_time` is over. So speech not yet ended is never longer than the two times together and a window.
        """
        events: list[SpeechStarted | SpeechEnded] = []
        while end - self._start > self._max:
            cut = self._start + self._max
            events += [SpeechEnded(self._start, cut), SpeechStarted(cut)]
            self._start = cut
        return events

    def _end(self, end: int) -> Boundaries:
        events = self._cut(end)
        self._state = _IDLE
        self._last_end = end
        return [*events, SpeechEnded(self._start, end)]
