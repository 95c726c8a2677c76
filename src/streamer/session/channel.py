"""One channel of a stream: what cuts it, and the results it is owed."""

from __future__ import annotations

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.audio.coding import Coding
from streamer.session.actions import JobId
from streamer.session.events import Mode
from streamer.session.intake import Intake, intake_for, kept_coding
from streamer.session.messages import Start
from streamer.session.ordering import OrderedResults
from streamer.session.pieces import PieceSegmenter
from streamer.session.segmenting import SPEECH_RATE, WINDOW, Segmenter
from streamer.session.settings import SessionSettings
from streamer.session.speech import SpeechSegmenter
from streamer.vad.settings import VadConfig

_STEP_MS = 20
"""In simple mode: what a client's message usually holds."""
MAX_STEPS = 500
"""Converted at once in simple mode, so that what has come together goes to the model together."""


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
        interval_ms, raw = _interval(settings, start), settings.limits.max_raw_bytes // start.format.channels
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


def intake_of(settings: SessionSettings, start: Start) -> tuple[Intake, Coding | None]:
    """What the stream's audio goes through, and how it is kept after that; None for decoded."""
    return intake_for(start.format, settings.model_sample_rate, _speech_rate(settings), *step_for(settings, start))


def kept_bytes_per_second(settings: SessionSettings, start: Start) -> int:
    """Return what a second of audio takes, of all channels, while the model may still want it.

    Audio that is resampled is decoded in the end if that makes it smaller, and for the model in any case.
    """
    form, rate = start.format, settings.model_sample_rate
    kept = kept_coding(form, rate, _speech_rate(settings), *step_for(settings, start))
    is_decoded = kept is None or kept.filter is not None
    return form.channels * rate * (SAMPLE_BYTES if is_decoded else form.encoding.sample_bytes)


def _speech_rate(settings: SessionSettings) -> int | None:
    return SPEECH_RATE if settings.mode is Mode.SEGMENTED else None


def _interval(settings: SessionSettings, start: Start) -> int | None:
    if start.interim_results and not settings.stateful:
        return max(start.interim_interval_ms or settings.interim_interval_ms, settings.min_interim_interval_ms)
    return None


def _pieces(settings: SessionSettings, start: Start, coding: Coding | None) -> Segmenter:
    capacity = _samples(1000 * (2 * settings.limits.audio_ahead_s + 60) + settings.max_piece_ms, settings)
    chunk = _samples(start.chunk_ms, settings) if start.chunk_ms else None
    shortest, longest = _samples(settings.min_piece_ms, settings), _samples(settings.max_piece_ms, settings)
    longest = max(1, min(longest, settings.limits.max_job_bytes // SAMPLE_BYTES))
    raw = settings.limits.max_raw_bytes // start.format.channels
    return PieceSegmenter(chunk, shortest, longest, capacity, coding, raw)


def _samples(ms: float, settings: SessionSettings) -> int:
    return max(1, round(ms * settings.model_sample_rate / 1000))
