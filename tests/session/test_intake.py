"""Audio that is kept as it came is the audio that would have been decoded at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.buffer import decoded
from streamer.audio.format import AudioFormat, Encoding
from streamer.audio.pcm import LAZY
from streamer.session.intake import Conversion, Intake, Passage, intake_for

STEP = 8


def heard(intake: Intake, data: bytes, cuts: list[int], *, most: int) -> tuple[list[int], np.ndarray]:
    """What is handed on of `data` in messages of these sizes: the sizes of the pieces, and all of it decoded."""
    sizes, pieces, at = [], [], 0
    for cut in [*cuts, len(data)]:
        wanted = intake.append(data[at : at + cut])
        at += cut
        while wanted:
            model, speech = intake.take(most)
            sizes.append(len(model[0]))
            pieces.append(decoded(model[0]))
            np.testing.assert_array_equal(decoded(speech[0]), pieces[-1])
            wanted = intake.pending_bytes >= intake.wanted_bytes
    pieces.append(decoded(intake.drain().model[0]))
    return sizes, np.concatenate(pieces)


@given(
    encoding=st.sampled_from(sorted(LAZY)),
    samples=st.integers(0, 100),
    odd=st.integers(0, 2),
    cuts=st.lists(st.integers(0, 70), max_size=12),
    most=st.integers(1, 4),
)
@settings(max_examples=100, deadline=None)
def test_what_is_kept_as_it_came_is_what_would_have_been_decoded(
    encoding: Encoding, samples: int, odd: int, cuts: list[int], most: int
) -> None:
    form = AudioFormat(encoding, 16_000, 1)
    data = np.random.default_rng(samples).bytes(samples * form.frame_bytes + odd % form.frame_bytes)
    kept, decoded_at_once = Passage(form, STEP), Conversion(form, 16_000, 16_000, STEP)
    assert heard(kept, data, cuts, most=most)[0] == heard(decoded_at_once, data, cuts, most=most)[0]
    kept, decoded_at_once = Passage(form, STEP), Conversion(form, 16_000, 16_000, STEP)
    one, other = heard(kept, data, cuts, most=most)[1], heard(decoded_at_once, data, cuts, most=most)[1]
    np.testing.assert_array_equal(one, other)
    assert kept.pending_bytes == decoded_at_once.pending_bytes == len(data) % form.frame_bytes


def test_only_what_needs_no_look_is_kept_as_it_came() -> None:
    def kept(
        encoding: Encoding = Encoding.PCM_S16LE, rate: int = 16_000, channels: int = 1, model: int = 16_000
    ) -> bool:
        intake, told = intake_for(AudioFormat(encoding, rate, channels), model, 16_000, STEP)
        assert (told is not None) == isinstance(intake, Passage)
        return told is not None

    assert kept()
    assert kept(Encoding.MULAW)
    assert not kept(Encoding.PCM_F32LE), "may hold what is no number"
    assert not kept(channels=2), "is not one channel's"
    assert not kept(rate=8_000), "has to be resampled"
    assert not kept(model=8_000, rate=8_000), "has to be resampled to find speech"
