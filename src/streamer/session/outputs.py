"""The audio output of a stream: which kind its mode has."""

from __future__ import annotations

from streamer.audio.format import AudioFormat
from streamer.session.audio_out import AudioOutput
from streamer.session.channel import overlap_of
from streamer.session.continuous import ContinuousOutput
from streamer.session.events import Mode
from streamer.session.messages import Start
from streamer.session.reordering import ReorderBuffer
from streamer.session.replies import ReplyOutput
from streamer.session.settings import SessionSettings


def output_for(settings: SessionSettings, start: Start, results: list[ReorderBuffer]) -> AudioOutput | None:
    """Return the output of a stream; None if its client wants no audio. `results`: of each channel."""
    info, model = settings.audio_out_info(start), settings.model_output
    if info is None or model is None or start.audio_out is None:
        return None
    form, rate = AudioFormat(info.encoding, info.sample_rate, info.channels), settings.model_sample_rate
    bounds, max_bytes = settings.audio_out, settings.limits.max_output_bytes
    if settings.mode is Mode.SIMPLE:
        rates = (start.format.sample_rate, rate)
        return ContinuousOutput(form, model, rates, overlap_of(settings), bounds, max_bytes)
    return ReplyOutput(form, model, rate, results, bounds, max_bytes, paced=start.audio_out.paced)
