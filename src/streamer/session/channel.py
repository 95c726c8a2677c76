"""One channel of a stream: its segmenter and its pending results."""

from __future__ import annotations

from streamer.audio.buffer import SAMPLE_BYTES
from streamer.audio.deferred_decoder import DeferredDecoder
from streamer.session.actions import JobId
from streamer.session.chunk_segmenter import ChunkSegmenter
from streamer.session.events import Mode
from streamer.session.input_pipeline import InputPipeline, kept_coding, pipeline_for
from streamer.session.messages import Start
from streamer.session.reordering import ReorderBuffer
from streamer.session.segmenter import MAX_WINDOWS, SPEECH_RATE, WINDOW, Segmenter
from streamer.session.settings import SessionSettings
from streamer.session.vad_segmenter import VadSegmenter
from streamer.vad.settings import VadConfig

_STEP_MS = 20
"""Conversion step in simple mode: a typical message of a client."""
MAX_STEPS = 500
"""Steps converted at once in simple mode, so that audio that arrives together goes to the model together."""


class Channel:
    """A segmenter and its pending results."""

    __slots__ = ("failed_samples", "index", "interim", "is_unscored", "results", "segmenter")

    def __init__(self, index: int, segmenter: Segmenter) -> None:
        self.index = index
        self.segmenter = segmenter
        self.results = ReorderBuffer()
        self.interim: JobId | None = None
        self.is_unscored = True
        """No audio of this stream was scored yet."""
        self.failed_samples = 0
        """Samples of failed ranges."""


def channels_for(
    settings: SessionSettings, start: Start, vad: VadConfig, coding: DeferredDecoder | None
) -> list[Channel]:
    """Return the channels of a stream."""
    count = start.format.channels
    return [Channel(index, segmenter_for(index, settings, start, vad, coding)) for index in range(count)]


def segmenter_for(
    index: int, settings: SessionSettings, start: Start, vad: VadConfig, coding: DeferredDecoder | None
) -> Segmenter:
    """Return the segmenter of a channel for the mode. `coding`: encoding of the stored audio; None for decoded."""
    if settings.mode is Mode.SEGMENTED:
        interval_ms, limits = interim_interval(settings, start), settings.limits
        raw, longest_ms = limits.max_raw_bytes // start.format.channels, limits.longest_speech_ms
        return VadSegmenter(index, vad, settings.model_sample_rate, interval_ms, coding, raw, longest_ms)
    return _chunk_segmenter(settings, start, coding)


def step_for(settings: SessionSettings, start: Start) -> tuple[int, int]:
    """Return the size of a conversion step: (samples, parts), see `pipeline_for`."""
    if settings.mode is Mode.SEGMENTED:
        return WINDOW, 1
    step = _samples(_STEP_MS, settings)
    if not start.chunk_ms:
        return step, 1
    chunk = _samples(start.chunk_ms, settings)
    return chunk, -(-chunk // step)


def max_steps_for(settings: SessionSettings, start: Start) -> int:
    """Return the maximum number of steps of one conversion."""
    segmented, form = settings.mode is Mode.SEGMENTED, start.format
    step, parts = step_for(settings, start)
    step_s = step / (parts * (SPEECH_RATE if segmented else settings.model_sample_rate))
    second = max(form.sample_rate * form.frame_bytes, settings.model_sample_rate * form.channels * SAMPLE_BYTES)
    return max(
        1, min(MAX_WINDOWS if segmented else MAX_STEPS, int(settings.limits.max_taken_bytes / (step_s * second)))
    )


def input_pipeline_of(settings: SessionSettings, start: Start) -> tuple[InputPipeline, DeferredDecoder | None]:
    """Return the input pipeline of a stream, and the encoding of its stored audio; None for decoded."""
    return pipeline_for(start.format, settings.model_sample_rate, _speech_rate(settings), *step_for(settings, start))


def kept_bytes_per_second(settings: SessionSettings, start: Start) -> int:
    """Return the memory of a second of audio of all channels, while the model may still need it.

    Resampled audio is finally decoded if that makes it smaller, and always for the model.
    """
    form, rate = start.format, settings.model_sample_rate
    encoding = kept_coding(form, rate, _speech_rate(settings), *step_for(settings, start))
    is_decoded = encoding is None or encoding.filter is not None
    return form.channels * rate * (SAMPLE_BYTES if is_decoded else form.encoding.sample_bytes)


def _speech_rate(settings: SessionSettings) -> int | None:
    return SPEECH_RATE if settings.mode is Mode.SEGMENTED else None


def interim_interval(settings: SessionSettings, start: Start) -> int | None:
    """Return the milliseconds of speech between two interims; None for no interims."""
    if start.interim_results and not settings.stateful:
        return max(start.interim_interval_ms or settings.interim_interval_ms, settings.min_interim_interval_ms)
    return None


def _chunk_segmenter(settings: SessionSettings, start: Start, coding: DeferredDecoder | None) -> Segmenter:
    capacity = _samples(1000 * (2 * settings.limits.audio_ahead_s + 60) + settings.max_piece_ms, settings)
    chunk = _samples(start.chunk_ms, settings) if start.chunk_ms else None
    shortest, longest = _samples(settings.min_piece_ms, settings), _samples(settings.max_piece_ms, settings)
    longest = max(1, min(longest, settings.limits.max_job_bytes // SAMPLE_BYTES))
    raw = settings.limits.max_raw_bytes // start.format.channels
    if start.audio_out is not None:  # a listener waits
        shortest = min(shortest, _samples(_STEP_MS, settings))
    return ChunkSegmenter(chunk, shortest, longest, capacity, coding, raw, overlap_of(settings))


def overlap_of(settings: SessionSettings) -> int:
    """Return the samples of the previous piece at the beginning of each piece."""
    return round(settings.overlap_ms * settings.model_sample_rate / 1000) if settings.mode is Mode.SIMPLE else 0


def _samples(ms: float, settings: SessionSettings) -> int:
    return max(1, round(ms * settings.model_sample_rate / 1000))
