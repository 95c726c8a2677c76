"""The endpointer: window probabilities to start and end of speech. Pure, over integer sample positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from streamer.vad.settings import VadConfig


@dataclass(frozen=True, slots=True)
class SpeechOnset:
    """Speech started at sample `start`."""

    start: int


@dataclass(frozen=True, slots=True)
class SpeechOffset:
    """Speech covered samples [start, end)."""

    start: int
    end: int
    is_cut: bool = field(default=False, compare=False)
    """The speech continues: it has reached its maximum length."""


class _EndpointerState(Enum):
    IDLE = "idle"
    CANDIDATE = "candidate"
    SPEECH = "speech"


_IDLE, _CANDIDATE, _SPEECH = _EndpointerState
SpeechBoundaries = list[SpeechOnset | SpeechOffset]


class Endpointer:
    """Endpointer of one channel. Positions count samples at `sample_rate` from the first push.

    The rules are those of the silero crate's VadSession (two thresholds with hysteresis, redemption), plus a maximum
    length of speech.
    """

    def __init__(self, config: VadConfig, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._state = _IDLE
        self._start = self._speech = self._silence = self._last_end = self._pre = 0
        self.position = 0
        """Samples pushed so far."""
        self.configure(config)

    def configure(self, config: VadConfig) -> None:
        """Apply other rules from the next window on. Positions continue, and open speech stays open."""
        rate = self._sample_rate

        def samples(ms: float) -> int:
            return round(ms * rate / 1000)

        self._last_end = max(self._last_end, self.needed_from)  # older audio is gone, whatever the new padding is
        self._opens_above = config.positive_speech_threshold
        self._silent_below = config.negative_speech_threshold
        self._pre = samples(config.pre_speech_pad_ms)
        self._post = samples(config.post_speech_pad_ms)
        self._redemption = samples(config.redemption_time_ms)
        self._min = samples(config.min_speech_time_ms)
        self._max = max(1, samples(config.max_speech_time_ms))

    @property
    def speaking(self) -> bool:
        """Whether a SpeechStarted has no SpeechEnded yet."""
        return self._state is _SPEECH

    @property
    def speech_start(self) -> int:
        """Start of the open speech; valid while `speaking`."""
        return self._start

    @property
    def needed_from(self) -> int:
        """First sample that may still belong to speech; older audio can be forgotten."""
        if self._state is _IDLE:
            return max(self.position - self._pre, self._last_end)
        return self._start

    def push(self, samples: int, probability: float) -> SpeechBoundaries:
        """Process the next window of `samples` samples with its speech probability; return the events."""
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
                return [SpeechOnset(self._start)]
            if silent:
                self._state = _IDLE
            return []
        if not silent:
            return self._cut(position) if position - self._start > self._max else []
        if self._silence > self._redemption:
            return self._end(min(position - self._silence + self._post, position))
        return []

    def finish(self) -> SpeechBoundaries:
        """End the open speech (a stop, a flush, a stall); return the event. More windows may follow."""
        if self._state is _SPEECH:
            return self._end(self.position)
        self._state = _IDLE
        return []

    def _cut(self, end: int) -> list[SpeechOnset | SpeechOffset]:
        """Split pieces of `max_speech_time` off speech that continues to `end`. The remainder is not empty.

        Silence alone does not split: only a voiced window or the end of `redemption_time` shows whether it belongs to
        the speech. So open speech is never longer than the two times together and a window.
        """
        events: list[SpeechOnset | SpeechOffset] = []
        while end - self._start > self._max:
            cut = self._start + self._max
            events += [SpeechOffset(self._start, cut, is_cut=True), SpeechOnset(cut)]
            self._start = cut
        return events

    def _end(self, end: int) -> SpeechBoundaries:
        events = self._cut(end)
        self._state = _IDLE
        self._last_end = end
        return [*events, SpeechOffset(self._start, end)]
