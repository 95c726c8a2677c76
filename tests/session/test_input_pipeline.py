"""Audio that is kept as it came is the audio that would have been decoded at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.buffer import buffer_for
from streamer.audio.deferred_decoder import decode_samples, deferred_decoder
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import DEFERRABLE
from streamer.session.input_pipeline import (
    InputChunk,
    InputPipeline,
    PassthroughPipeline,
    ResamplingPipeline,
    pipeline_for,
)

WINDOW = 512
ALAW = Encoding.ALAW  # has no zero: the silence before a stream is a little more than none
Floats = NDArray[np.float32]
RATES = [8_000, 16_000, 32_000, 48_000]


class PipelineOutput:
    """What comes out of an input pipeline: audio for the model through its buffer, and where speech is looked for."""

    def __init__(self, form: AudioFormat, *, late: bool) -> None:
        self.intake: InputPipeline
        kept = deferred_decoder(form.encoding, form.sample_rate, 16_000) if late else None
        self.intake = (
            PassthroughPipeline(form, kept, WINDOW) if kept else ResamplingPipeline(form, 16_000, 16_000, WINDOW)
        )
        self._buffers = [buffer_for(kept, 10**6) for _ in range(form.channels)]
        self._speech: list[list[Floats]] = []

    def stretch(self, data: bytes, cuts: list[int], most: int) -> tuple[list[Floats], list[Floats]]:
        """By channel, what the model and what the scorer would hear of audio in messages of these sizes, to its end."""
        self._speech, at = [[] for _ in self._buffers], 0
        for cut in [*cuts, len(data)]:
            wanted = self.intake.append(data[at : at + cut])
            at += cut
            while wanted:
                taken = self.intake.take(most)
                if isinstance(self.intake, PassthroughPipeline):
                    assert len(taken[1][0]) in range(WINDOW, most * WINDOW + 1, WINDOW), (
                        "whole windows, at most so many"
                    )
                self._hear(taken)
                wanted = self.intake.pending_bytes >= self.intake.low_watermark_bytes
        self._hear(self.intake.drain())
        for buffer in self._buffers:
            buffer.seal()
        model = [buffer.slice(buffer.start, buffer.end) for buffer in self._buffers]
        for buffer in self._buffers:
            buffer.forget(buffer.end)
        return model, [np.concatenate(heard) for heard in self._speech]

    def _hear(self, taken: InputChunk) -> None:
        models, speeches, _ = taken
        for buffer, model, heard, speech in zip(self._buffers, models, self._speech, speeches, strict=True):
            buffer.append(model)
            heard.append(decode_samples(speech))


@given(
    encoding=st.sampled_from(sorted(DEFERRABLE)),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 3),
    stretches=st.lists(
        st.tuples(st.integers(0, 4_000), st.lists(st.integers(0, 3_000), max_size=8)), min_size=1, max_size=3
    ),
    odd=st.integers(0, 2),
    most=st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_what_is_kept_as_it_came_is_what_would_have_been_converted_at_once(
    encoding: Encoding, rate: int, channels: int, stretches: list[tuple[int, list[int]]], odd: int, most: int
) -> None:
    form = AudioFormat(encoding, rate, channels)
    late, at_once = PipelineOutput(form, late=True), PipelineOutput(form, late=False)
    noise, come, out = np.random.default_rng(most), 0, 0
    for frames, cuts in stretches:
        data = noise.bytes(frames * form.frame_bytes)
        (model, speech), (model_at_once, speech_at_once) = (
            heard.stretch(data, cuts, most) for heard in (late, at_once)
        )
        come += frames
        due = (2 * come * 16_000 + rate) // (2 * rate) - out
        out += due
        for channel in range(channels):
            assert len(model[channel]) == len(speech[channel]) == due
            np.testing.assert_array_equal(model[channel], model_at_once[channel])
            np.testing.assert_allclose(
                speech[channel], speech_at_once[channel], atol=4e-4 if encoding is ALAW else 1e-6
            )
    rest = bytes(odd % form.frame_bytes)
    for heard in (late, at_once):
        heard.stretch(rest, [], most)
        assert heard.intake.pending_bytes == len(rest)
    assert late.intake.clamped == at_once.intake.clamped


def test_only_what_can_be_converted_late_is_kept_as_it_came() -> None:
    def kept(
        encoding: Encoding = Encoding.PCM_S16LE, rate: int = 16_000, channels: int = 1, model: int = 16_000
    ) -> bool:
        intake, told = pipeline_for(AudioFormat(encoding, rate, channels), model, 16_000, WINDOW)
        assert (told is not None) == isinstance(intake, PassthroughPipeline)
        return told is not None

    assert kept()
    assert kept(Encoding.MULAW)
    assert kept(Encoding.PCM_F32LE)
    assert not kept(Encoding.PCM_F64LE), "takes twice the room"
    assert kept(channels=2)
    assert kept(rate=8_000)
    assert kept(rate=48_000, model=8_000)
    assert not kept(rate=44_100), "has no whole ratio to the model's rate"
    assert not kept(rate=24_000, model=24_000), "has no whole ratio to the rate at which speech is found"


def test_pieces_are_kept_as_they_come_where_their_parts_are_whole() -> None:
    telephone = AudioFormat(Encoding.MULAW, 8_000, 1)
    whole, _ = pipeline_for(telephone, 16_000, None, 8_000, parts=25)  # 500 ms in parts of 20
    assert isinstance(whole, PassthroughPipeline)
    assert whole.append(bytes(160 + 40)), "20 ms, and what the filter looks at behind them"
    broken, _ = pipeline_for(telephone, 16_000, None, 8_160, parts=26)
    assert isinstance(broken, ResamplingPipeline)
