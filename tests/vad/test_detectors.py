"""Detectors by name: what each finds, that a stream's cut and its neighbours change nothing, and those of one's own."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.vad.detectors import NAMES, make_detector
from streamer.vad.energy import EnergyDetector
from streamer.vad.recording import segments_from, speech_probabilities
from streamer.vad.rows import WINDOW, Detector
from streamer.vad.settings import VadConfig, VadSection
from tests.vad.speech import RATE, SAMPLE, real


def found(samples, detector="energy", config=None):
    probabilities = speech_probabilities(samples, RATE, make_detector(detector))
    segments = segments_from(probabilities, len(samples), RATE, config or VadConfig())
    return [(segment.start / RATE, segment.end / RATE) for segment in segments]


def noise(seconds, dbfs, seed=0):
    return np.random.default_rng(seed).normal(0, 10 ** (dbfs / 20), int(seconds * RATE)).astype(np.float32)


def test_energy_finds_what_silero_finds_in_clean_speech():
    samples = real(SAMPLE.name)
    by_energy, by_silero = found(samples), found(samples, "silero")
    assert len(by_energy) == len(by_silero) == 2
    for mine, theirs in zip(by_energy, by_silero, strict=True):
        assert mine == pytest.approx(theirs, abs=0.4)


def test_a_steady_noise_becomes_the_floor_and_what_stands_out_of_it_is_found():
    samples = noise(30, -35)
    samples[20 * RATE : 21 * RATE] += noise(1, -15, seed=1)
    segments = found(samples)
    late = [segment for segment in segments if segment[0] > 10]
    assert len(late) == 1
    assert late[0][0] == pytest.approx(19.4, abs=0.1)  # the second begins after the padding
    assert late[0][1] == pytest.approx(21, abs=0.1)


def test_silence_is_no_sound_however_quiet_the_floor_is():
    assert found(np.zeros(10 * RATE, np.float32)) == []
    assert found(noise(10, -75)) == []


def test_without_a_detector_everything_is_one_segment_up_to_the_longest():
    samples = np.zeros(10 * RATE, np.float32)
    assert found(samples, "none") == [(0.0, 10.0)]
    config = VadConfig(max_speech_time_ms=4_000)
    assert found(samples, "none", config) == [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]


cuts = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@settings(max_examples=30)
@given(st.sampled_from(["energy", "none"]), cuts, st.integers(0, 2**32 - 1))
def test_a_streams_cut_and_its_neighbours_change_nothing(name, counts, seed):
    rng = np.random.default_rng(seed)
    windows = (rng.normal(0, 1, (sum(counts), WINDOW)) * rng.uniform(0, 0.5, (sum(counts), 1))).astype(np.float32)
    others = rng.normal(0, 0.2, (len(counts), WINDOW)).astype(np.float32)
    whole = make_detector(name)
    [expected] = whole.score([(whole.open(), windows.ravel())])
    detector = make_detector(name)
    other, row = detector.open(), detector.open()
    got, at = [], 0
    for index, count in enumerate(counts):
        part = windows[at : at + count]
        both = detector.score_windows([other, row], [1, count], np.concatenate([others[index : index + 1], part]))
        got.append(both[1:])
        at += count
    assert np.concatenate(got).tolist() == expected.tolist()
    assert ((expected >= 0) & (expected <= 1)).all()
    detector.reset(row)
    assert detector.score([(row, windows.ravel())])[0].tolist() == expected.tolist()
    detector.close(row)
    with pytest.raises(ValueError, match="is not open"):
        detector.reset(row)


OWN = """
from streamer.vad import Detector

class Loud(Detector):
    def begin(self):
        return []

    def probabilities(self, state, windows):
        return abs(windows).max(axis=1)

class Short(Loud):
    def probabilities(self, state, windows):
        return [0.5]

class Other:
    pass

class Eight(Loud):
    sample_rate = 8_000

def broken():
    raise OSError("no weights")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_detectors.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_detectors"
    sys.modules.pop("own_detectors", None)


def test_a_detector_of_ones_own_is_made_by_its_import_path(own):
    detector = make_detector(f"{own}:Loud")
    assert isinstance(detector, Detector)
    windows = np.stack([np.full(WINDOW, 0.25, np.float32), np.full(WINDOW, -0.75, np.float32)])
    assert detector.score_windows([detector.open()], [2], windows).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("webrtc", "one of silero, energy, none, or package.module:Detector, got 'webrtc'"),
        ("own_detectors:Other", "a SpeechScorer, which has open, close"),
        ("own_detectors:Eight", "windows of 512 samples at 16000 Hz, not of 512 at 8000"),
        ("own_detectors:broken", r"a detector that can be made \(OSError: no weights\)"),
        ("own_detectors:Nothing", r"can be made \(AttributeError"),
        ("no_such_module:X", r"can be made \(ModuleNotFoundError"),
    ],
)
def test_what_is_no_detector_is_refused_with_what_was_expected(own, name, words):
    with pytest.raises(ConfigError, match=f"vad.detector: expected .*{words}"):
        make_detector(name)


def test_a_detector_that_gives_too_few_probabilities_is_named(own):
    detector = make_detector(f"{own}:Short")
    with pytest.raises(ValueError, match=r"Short\.probabilities: expected 2 probabilities, got \(1,\)"):
        detector.score_windows([detector.open()], [2], np.zeros((2, WINDOW), np.float32))


def test_the_section_has_the_numbers_and_the_name():
    assert VadSection(redemption_time_ms=100.0, detector="energy").detector == "energy"
    assert VadSection().detector in NAMES
    assert EnergyDetector().window == WINDOW
