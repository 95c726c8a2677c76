"""A whole recording in one call: any rate, segments in the recording's own samples."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

import streamer.vad
from streamer.errors import InvalidFormat
from streamer.vad import SileroScorer, SpeechOffset, VadConfig, speech_probabilities, speech_segments
from tests.vad.speech import RATE, SAMPLE, real


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return real(SAMPLE.name)


def test_probabilities_are_those_of_the_scorer_with_the_last_window_filled_up(sample: np.ndarray) -> None:
    scorer = SileroScorer()
    padded = np.pad(sample, (0, -len(sample) % 512))
    probabilities = speech_probabilities(sample, RATE)
    assert probabilities.dtype == np.float32
    assert len(probabilities) == -(-len(sample) // 512)
    assert np.allclose(probabilities, scorer.score([(scorer.open(), padded)])[0], atol=1e-6)


def test_a_long_recording_is_scored_in_blocks_without_a_seam(
    sample: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = speech_probabilities(sample, RATE)
    monkeypatch.setattr("streamer.vad.recording._BLOCK", 7)
    assert np.allclose(speech_probabilities(sample, RATE), expected, atol=1e-5)


def test_what_is_not_finite_counts_as_silence(sample: np.ndarray) -> None:
    holed, silenced = sample.copy(), sample.copy()
    holed[1000:1010], silenced[1000:1010] = np.nan, 0
    holed[5000], silenced[5000] = np.inf, 0
    assert np.array_equal(speech_probabilities(holed, RATE), speech_probabilities(silenced, RATE))


def test_an_empty_recording_has_no_windows() -> None:
    assert speech_probabilities(np.empty(0, np.float32), RATE).shape == (0,)
    assert speech_segments(np.empty(0, np.float32), 44_100) == []


def test_the_sample_has_its_two_sentences(sample: np.ndarray) -> None:
    first, second = speech_segments(sample, RATE)
    seconds = [first.start / RATE, first.end / RATE, second.start / RATE, second.end / RATE]
    assert np.allclose(seconds, [0.17, 2.59, 3.56, 5.95], atol=0.05)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_segments_are_the_same_at_each_rate(sample: np.ndarray, rate: int) -> None:
    expected = [(s.start / RATE, s.end / RATE) for s in speech_segments(sample, RATE)]
    resampled = soxr.resample(sample, RATE, rate)
    found = speech_segments(resampled, rate)
    assert np.allclose([(s.start / rate, s.end / rate) for s in found], expected, atol=0.04)
    assert all(s.end <= len(resampled) for s in found)


def test_open_speech_ends_with_the_recording(sample: np.ndarray) -> None:
    cut = sample[: 2 * RATE]
    assert speech_segments(cut, RATE)[-1].end == len(cut)


def test_the_config_is_obeyed(sample: np.ndarray) -> None:
    assert speech_segments(sample, RATE, VadConfig(min_speech_time_ms=10_000)) == []
    merged = speech_segments(sample, RATE, VadConfig(redemption_time_ms=2_000))
    assert len(merged) == 1
    assert isinstance(merged[0], SpeechOffset)


def test_what_is_not_a_recording_is_refused() -> None:
    with pytest.raises(InvalidFormat, match=r"samples: expected float32 \[n\], got 'float32 \[2, 100\]'"):
        speech_probabilities(np.zeros((2, 100), np.float32), RATE)
    with pytest.raises(InvalidFormat, match="got 'int16"):
        speech_probabilities(np.zeros(100, np.int16), RATE)  # type: ignore[arg-type]
    with pytest.raises(InvalidFormat, match="sample_rate: expected a positive number of Hz, got 0"):
        speech_probabilities(np.zeros(100, np.float32), 0)


def test_every_public_name_resolves() -> None:
    for name in streamer.vad.__all__:
        assert getattr(streamer.vad, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = streamer.vad.nothing
