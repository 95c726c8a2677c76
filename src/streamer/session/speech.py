"""The segmenter of `segmented`: scores and endpoints speech, and requests a result for each utterance."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.buffer import MAX_RAW_BYTES, buffer_for
from streamer.audio.coding import Coding, Kept, Pcm, Samples
from streamer.audio.windows import Windower
from streamer.session.actions import JobKind
from streamer.session.events import EndReason, SpeechEnded, SpeechStarted
from streamer.session.segmenting import SPEECH_RATE, WINDOW, Fact, Segmenter, Wanted
from streamer.vad import endpointer as vad
from streamer.vad.endpointer import Endpointer
from streamer.vad.settings import VadConfig

_MARGIN_S = 4.0
"""Stored audio besides the longest utterance: windows being scored, resampler delays, one conversion, unforgotten
audio."""
_FORGET = 8 * WINDOW
"""Samples after which unneeded audio is forgotten."""


class SpeechSegmenter(Segmenter):
    """Segmenter of one channel in `segmented` mode.

    The endpointer counts samples at SPEECH_RATE, results count them at the model's. If the two differ, a range is
    requested only when the model's samples have arrived, because the two resamplers have different delays.
    `interim_interval_ms`: speech between two interims; None for no interims. `coding`: encoding of the stored audio;
    None for decoded. `max_raw_bytes`: see `ResampledBuffer`. `longest_ms`: longest speech that `configure` may request.
    """

    def __init__(
        self,
        index: int,
        config: VadConfig,
        model_rate: int,
        interim_interval_ms: int | None,
        coding: Coding | None = None,
        max_raw_bytes: int = MAX_RAW_BYTES,
        longest_ms: float = 0.0,
    ) -> None:
        self._index = index
        self._rate = model_rate
        self._interval = _interval(interim_interval_ms)
        longest_s = max(longest_ms, longest_speech_ms(config)) / 1000
        self._buffer = buffer_for(coding, round((longest_s + _MARGIN_S) * model_rate), max_raw_bytes)
        self._windower = Windower(WINDOW)
        self._tail = 0
        self._endpointer = Endpointer(config, SPEECH_RATE)
        self._forget_at = 0
        self._segment = 0
        self._interim_from = 0
        self._due: int | None = None
        self._queue: deque[Wanted] = deque()
        self._sealed = False

    @property
    def kept_from(self) -> int:
        needed = self._endpointer.needed_from
        if self._rate != SPEECH_RATE:
            needed = max(0, self._at(needed) - 1)
        return min(needed, self._queue[0].start) if self._queue else needed

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def settled(self) -> bool:
        return not self._queue

    @property
    def asks(self) -> bool:
        return bool(self._queue) or self._due is not None

    @property
    def waiting(self) -> int:
        # Audio being scored does not count, at most MAX_WINDOWS; the rest waits as bytes.
        return sum([wanted.end - wanted.start for wanted in self._queue if self._is_here(wanted)])

    @property
    def next_length(self) -> int | None:
        if not self._queue:
            return None
        wanted = self._queue[0]
        return wanted.end - wanted.start if self._is_here(wanted) else None

    @property
    def speaking(self) -> bool:
        return self._endpointer.speaking

    def push(self, model: Kept, speech: Samples, *, last: bool) -> Samples | None:
        self._buffer.append(model)
        if isinstance(speech, Pcm):
            if not last:
                return speech
            speech = speech.decode()
        whole = self._windower.push(speech)
        if last:
            self._sealed = True
            self._buffer.seal()
            if tail := self._windower.flush():
                window, self._tail = tail
                whole = np.concatenate((whole, window))
        return whole if len(whole) else None

    def unseal(self) -> None:
        self._sealed = False

    def scored(self, probabilities: Sequence[float]) -> Sequence[Fact]:
        facts: Sequence[Fact] = ()
        endpointer = self._endpointer
        left = len(probabilities)
        for probability in probabilities:
            left -= 1
            length = WINDOW
            if self._tail and not left:  # a window padded at a barrier counts with its true length
                length, self._tail = self._tail, 0
            if events := endpointer.push(length, probability):
                facts = [*facts, *self._told(events, EndReason.SILENCE)]
            if self._interval is not None and endpointer.speaking:
                position = endpointer.position
                if position - self._interim_from >= self._interval:
                    self._due = self._interim_from = position
        if endpointer.position >= self._forget_at:
            self._forget_at = endpointer.position + _FORGET
            self._buffer.forget(self.kept_from)
        return facts

    def finish(self, reason: EndReason) -> list[Fact]:
        return self._told(self._endpointer.finish(), reason)

    @property
    def position(self) -> int:
        return self._at(self._endpointer.position)

    def configure(self, config: VadConfig, interim_interval_ms: int | None) -> None:
        self._endpointer.configure(config)
        self._interval = _interval(interim_interval_ms)

    def next_wanted(self) -> Wanted | None:
        return self._queue.popleft() if self._queue and self._is_here(self._queue[0]) else None

    def interim(self) -> Wanted | None:
        if self._due is None or not self._endpointer.speaking:
            return None
        end = min(self._at(self._due), self._buffer.end)
        self._due = None
        return Wanted(JobKind.INTERIM, self._segment, self._at(self._endpointer.speech_start), end)

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        self._buffer.forget(min(start, self.kept_from))
        return self._buffer.slice(start, end)

    def _is_here(self, wanted: Wanted) -> bool:
        """Return whether all samples of a range have left the resampler."""
        return wanted.end <= self._buffer.end or self._sealed

    def _at(self, position: int) -> int:
        """Convert a position of the endpointer to the model's rate."""
        if self._rate == SPEECH_RATE:
            return position
        at = position * self._rate // SPEECH_RATE
        return min(at, self._buffer.end) if self._sealed else at

    def _told(self, events: vad.Boundaries, reason: EndReason) -> list[Fact]:
        facts: list[Fact] = []
        for event in events:
            if isinstance(event, vad.SpeechStarted):
                self._segment += 1
                self._interim_from = self._endpointer.position
                facts.append(SpeechStarted(self._index, self._at(event.start)))
            else:
                self._due = None
                start, end = self._at(event.start), self._at(event.end)
                why = EndReason.MAX_LENGTH if event.is_cut else reason
                self._queue.append(Wanted(JobKind.FINAL, self._segment, start, end, why))
                facts.append(SpeechEnded(self._index, end))
        return facts


def longest_speech_ms(config: VadConfig) -> float:
    """Return the longest time for which audio of one utterance is stored."""
    return config.pre_speech_pad_ms + config.max_speech_time_ms + config.redemption_time_ms


def _interval(milliseconds: int | None) -> int | None:
    return milliseconds and milliseconds * SPEECH_RATE // 1000
