"""The segmenter of `segmented`: scores and endpoints speech, and requests a result for each utterance."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamer.audio.buffer import MAX_RAW_BYTES, buffer_for
from streamer.audio.deferred_decoder import AudioSamples, DeferredDecoder, Pcm, StoredAudio
from streamer.audio.windower import Windower
from streamer.session.actions import JobKind
from streamer.session.events import EndReason, SpeechEnded, SpeechStarted
from streamer.session.segmenter import SPEECH_RATE, WINDOW, AudioRange, Segmenter, SegmenterEvent
from streamer.vad import endpointer as vad
from streamer.vad.endpointer import Endpointer
from streamer.vad.settings import VadConfig

_MARGIN_S = 4.0
"""Stored audio besides the longest utterance: windows being scored, resampler delays, one conversion, unforgotten
audio."""
_FORGET = 8 * WINDOW
"""Samples after which unneeded audio is forgotten."""


class VadSegmenter(Segmenter):
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
        coding: DeferredDecoder | None = None,
        max_raw_bytes: int = MAX_RAW_BYTES,
        longest_ms: float = 0.0,
    ) -> None:
        self._index = index
        self._rate = model_rate
        self._interval = _interval(interim_interval_ms)
        longest_s = max(longest_ms, longest_speech_ms(config)) / 1000
        self._buffer = buffer_for(coding, round((longest_s + _MARGIN_S) * model_rate), max_raw_bytes)
        self._windower = Windower(WINDOW)
        self._tail_samples = 0
        self._endpointer = Endpointer(config, SPEECH_RATE)
        self._forget_at = 0
        self._segment = 0
        self._interim_from = 0
        self._interim_due_at: int | None = None
        self._queue: deque[AudioRange] = deque()
        self._at_barrier = False

    @property
    def needed_from(self) -> int:
        needed = self._endpointer.needed_from
        if self._rate != SPEECH_RATE:
            needed = max(0, self._to_model_rate(needed) - 1)
        return min(needed, self._queue[0].start) if self._queue else needed

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    @property
    def is_drained(self) -> bool:
        return not self._queue

    @property
    def has_requests(self) -> bool:
        return bool(self._queue) or self._interim_due_at is not None

    @property
    def pending_samples(self) -> int:
        # Audio being scored does not count, at most MAX_WINDOWS; the rest waits as bytes.
        return sum([audio_range.end - audio_range.start for audio_range in self._queue if self._is_here(audio_range)])

    @property
    def next_length(self) -> int | None:
        if not self._queue:
            return None
        audio_range = self._queue[0]
        return audio_range.end - audio_range.start if self._is_here(audio_range) else None

    @property
    def is_speaking(self) -> bool:
        return self._endpointer.speaking

    def push(self, model: StoredAudio, speech: AudioSamples, *, last: bool) -> AudioSamples | None:
        self._buffer.append(model)
        if isinstance(speech, Pcm):
            if not last:
                return speech
            speech = speech.decode()
        whole = self._windower.push(speech)
        if last:
            self._at_barrier = True
            self._buffer.seal()
            if tail := self._windower.flush():
                window, self._tail_samples = tail
                whole = np.concatenate((whole, window))
        return whole if len(whole) else None

    def resume(self) -> None:
        self._at_barrier = False

    def on_scores(self, probabilities: Sequence[float]) -> Sequence[SegmenterEvent]:
        segmenter_events: Sequence[SegmenterEvent] = ()
        endpointer = self._endpointer
        remaining = len(probabilities)
        for probability in probabilities:
            remaining -= 1
            length = WINDOW
            if self._tail_samples and not remaining:  # a window padded at a barrier counts with its true length
                length, self._tail_samples = self._tail_samples, 0
            if events := endpointer.push(length, probability):
                segmenter_events = [*segmenter_events, *self._events_of(events, EndReason.SILENCE)]
            if self._interval is not None and endpointer.speaking:
                position = endpointer.position
                if position - self._interim_from >= self._interval:
                    self._interim_due_at = self._interim_from = position
        if endpointer.position >= self._forget_at:
            self._forget_at = endpointer.position + _FORGET
            self._buffer.forget(self.needed_from)
        return segmenter_events

    def finish(self, reason: EndReason) -> list[SegmenterEvent]:
        return self._events_of(self._endpointer.finish(), reason)

    @property
    def position(self) -> int:
        return self._to_model_rate(self._endpointer.position)

    def configure(self, config: VadConfig, interim_interval_ms: int | None) -> None:
        self._endpointer.configure(config)
        self._interval = _interval(interim_interval_ms)

    def next_range(self) -> AudioRange | None:
        return self._queue.popleft() if self._queue and self._is_here(self._queue[0]) else None

    def due_interim(self) -> AudioRange | None:
        if self._interim_due_at is None or not self._endpointer.speaking:
            return None
        end = min(self._to_model_rate(self._interim_due_at), self._buffer.end)
        self._interim_due_at = None
        return AudioRange(JobKind.INTERIM, self._segment, self._to_model_rate(self._endpointer.speech_start), end)

    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        self._buffer.forget(min(start, self.needed_from))
        return self._buffer.slice(start, end)

    def _is_here(self, audio_range: AudioRange) -> bool:
        """Return whether all samples of a range have left the resampler."""
        return audio_range.end <= self._buffer.end or self._at_barrier

    def _to_model_rate(self, position: int) -> int:
        """Convert a position of the endpointer to the model's rate."""
        if self._rate == SPEECH_RATE:
            return position
        at = position * self._rate // SPEECH_RATE
        return min(at, self._buffer.end) if self._at_barrier else at

    def _events_of(self, events: vad.SpeechBoundaries, reason: EndReason) -> list[SegmenterEvent]:
        segmenter_events: list[SegmenterEvent] = []
        for event in events:
            if isinstance(event, vad.SpeechOnset):
                self._segment += 1
                self._interim_from = self._endpointer.position
                segmenter_events.append(SpeechStarted(self._index, self._to_model_rate(event.start)))
            else:
                self._interim_due_at = None
                start, end = self._to_model_rate(event.start), self._to_model_rate(event.end)
                why = EndReason.MAX_LENGTH if event.is_cut else reason
                self._queue.append(AudioRange(JobKind.FINAL, self._segment, start, end, why))
                segmenter_events.append(SpeechEnded(self._index, end))
        return segmenter_events


def longest_speech_ms(config: VadConfig) -> float:
    """Return the longest time for which audio of one utterance is stored."""
    return config.pre_speech_pad_ms + config.max_speech_time_ms + config.redemption_time_ms


def _interval(milliseconds: int | None) -> int | None:
    return milliseconds and milliseconds * SPEECH_RATE // 1000
