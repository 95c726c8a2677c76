"""The segmenter interface: takes a channel's samples, and requests results for ranges of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.audio.deferred_decoder import AudioSamples, StoredAudio
from streamer.session.actions import JobKind
from streamer.session.events import EndReason, SpeechEnded, SpeechStarted
from streamer.vad.settings import VadConfig

SPEECH_RATE = 16_000
"""Sample rate of the speech scorer in Hz."""
WINDOW = 512
"""Samples of one scored window: 32 ms."""
MAX_WINDOWS = 32
"""Maximum windows in one request, so that a file cannot delay other streams."""


@dataclass(frozen=True, slots=True)
class AudioRange:
    """Samples [start, end) of the channel, at the model's rate, that need a result."""

    kind: JobKind
    segment_id: int
    start: int
    end: int
    reason: EndReason | None = None


SegmenterEvent = SpeechStarted | SpeechEnded


class Segmenter(ABC):
    """Segmenter of one channel. `simple` and `segmented` are two implementations on one path.

    Positions count samples at the model's rate from the start of the stream.
    """

    @property
    @abstractmethod
    def needed_from(self) -> int:
        """First sample that a later result may cover."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes of stored audio."""

    @property
    @abstractmethod
    def is_drained(self) -> bool:
        """Whether all ranges before the barrier were requested. Valid after the last push before it."""

    @property
    @abstractmethod
    def has_requests(self) -> bool:
        """Whether `next_range` or `interim` may return a range."""

    @property
    @abstractmethod
    def pending_samples(self) -> int:
        """Samples that could be processed if the model or the scorer were free."""

    @property
    @abstractmethod
    def is_speaking(self) -> bool:
        """Whether a stall should end speech."""

    @abstractmethod
    def push(self, model: StoredAudio, speech: AudioSamples, *, last: bool) -> AudioSamples | None:
        """Take audio of this channel, at the model's rate and at SPEECH_RATE; return the samples to score now, or None.

        They are k * WINDOW samples. Encoded audio arrives in whole windows. `last`: all audio before a barrier was
        pushed, exact to the sample.
        """

    @abstractmethod
    def resume(self) -> None:
        """Continue after a barrier."""

    @abstractmethod
    def on_scores(self, probabilities: Sequence[float]) -> Sequence[SegmenterEvent]:
        """Take the scores of the last `push`; return the events."""

    @abstractmethod
    def finish(self, reason: EndReason) -> list[SegmenterEvent]:
        """End open speech at a barrier, after everything before it was scored; return the events."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Position up to which the audio was processed."""

    @abstractmethod
    def configure(self, config: VadConfig, interim_interval_ms: int | None) -> None:
        """Apply other endpointing, and another interval of interims, from the next window on."""

    @property
    @abstractmethod
    def next_length(self) -> int | None:
        """Samples of the next range that needs a result, or None."""

    @abstractmethod
    def next_range(self) -> AudioRange | None:
        """Return the next range that needs a result, if any."""

    @abstractmethod
    def due_interim(self) -> AudioRange | None:
        """Return the interim that is due, if any. Called only while none is pending."""

    @abstractmethod
    def samples(self, start: int, end: int) -> NDArray[np.float32]:
        """Return the audio of a range; read-only."""
