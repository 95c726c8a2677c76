"""One channel of a stream: what cuts it, and the results it is owed."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.audio.buffer import MAX_RAW_BYTES
from streamer.audio.coding import Coding
from streamer.session.actions import JobId
from streamer.session.events import Mode
from streamer.session.messages import Start
from streamer.session.ordering import OrderedResults
from streamer.session.pieces import PieceSegmenter
from streamer.session.segmenting import WINDOW, Segmenter, Wanted
from streamer.session.settings import SessionSettings
from streamer.session.speech import SpeechSegmenter
from streamer.vad.settings import VadConfig

_STEP_MS = 20
"""In simple mode: what a client's message usually holds."""
MAX_STEPS = 500
"""Converted at once in simple mode, so that what has come together goes to the model together."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that is out, and when it was asked for."""

    job: JobId
    channel: int
    wanted: Wanted
    at: float


class Channel:
    """A segmenter and the results it is owed."""

    __slots__ = ("failed", "fresh", "index", "interim", "results", "segmenter")

    def __init__(self, index: int, segmenter: Segmenter) -> None:
        self.index = index
        self.segmenter = segmenter
        self.results = OrderedResults()
        self.interim: JobId | None = None
        self.fresh = True
        """Nothing of it has been scored."""
        self.failed = 0
        """Samples of ranges that failed."""


def segmenter_for(
    index: int, settings: SessionSettings, start: Start, vad: VadConfig, coding: Coding | None
) -> Segmenter:
    """What cuts this channel, by the mode. `coding`: how its audio is kept; None for decoded."""
    if settings.mode is Mode.SEGMENTED:
        interval_ms, raw = _interval(settings, start), MAX_RAW_BYTES // start.format.channels
        return SpeechSegmenter(index, vad, settings.model_sample_rate, interval_ms, coding, raw)
    return _pieces(settings, start, coding)


def step_for(settings: SessionSettings, start: Start) -> tuple[int, int]:
    """How much audio is converted at a time: (samples, parts), see Intake."""
    if settings.mode is Mode.SEGMENTED:
        return WINDOW, 1
    step = _samples(_STEP_MS, settings)
    if not start.chunk_ms:
        return step, 1
    chunk = _samples(start.chunk_ms, settings)
    return chunk, -(-chunk // step)


def _interval(settings: SessionSettings, start: Start) -> int | None:
    if start.interim_results and not settings.stateful:
        return max(start.interim_interval_ms or settings.interim_interval_ms, settings.min_interim_interval_ms)
    return None


def _pieces(settings: SessionSettings, start: Start, coding: Coding | None) -> Segmenter:
    capacity = _samples(1000 * (2 * settings.limits.audio_ahead_s + 60) + settings.max_piece_ms, settings)
    chunk = _samples(start.chunk_ms, settings) if start.chunk_ms else None
    shortest, longest = _samples(settings.min_piece_ms, settings), _samples(settings.max_piece_ms, settings)
    return PieceSegmenter(chunk, shortest, longest, capacity, coding, MAX_RAW_BYTES // start.format.channels)


def _samples(ms: float, settings: SessionSettings) -> int:
    return max(1, round(ms * settings.model_sample_rate / 1000))
