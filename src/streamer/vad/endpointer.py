"""From window probabilities to the start and end of speech: a pure machine over integer sample positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamer.vad.settings import VadConfig


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
