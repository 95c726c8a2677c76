"""The end-of-turn stage: which pauses it holds, for how long, and that cut and neighbours change nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.app import App
from streamer.config import Settings
from streamer.errors import BadRequest, ConfigError
from streamer.vad.endpointer import Endpointer, SpeechOffset
from streamer.vad.rows import WINDOW, Detector
from streamer.vad.settings import TurnConfig, VadConfig
from streamer.vad.turns import SmartTurn, TurnScorer, make_turn_model
from tests.vad.speech import RATE, SAMPLE, real

WINDOW_MS = 32


class Loud(Detector[None]):
    """A window's loudness is its probability."""

    def begin(self):
        return None

    def probabilities(self, state, windows):
        return np.abs(windows).max(axis=1)


class Louder:
    """A turn model: the turn has ended when the last second was loud."""

    def __init__(self):
        self.asked = []

    def ended(self, audio):
        self.asked.append(len(audio))
        assert all(samples.dtype == np.float32 and len(samples) <= 8 * RATE for samples in audio)
        return [float(np.abs(samples[-RATE:]).max() > 0.8) for samples in audio]


def stage(config=None, model=None):
    return TurnScorer(Loud(), model or Louder(), config or TurnConfig("x", after_ms=100, hold_ms=640))


def windows(*levels):
    return np.concatenate([np.full((count, WINDOW), level, np.float32) for level, count in levels])


def scored(scorer, data):
    [scores] = scorer.score([(scorer.open(), data.ravel())])
    return scores


def test_a_pause_in_an_unfinished_turn_is_held_and_one_after_a_finished_turn_is_not():
    held = scored(stage(), windows((0.6, 10), (0.0, 40)))
    assert held[:13].tolist() == pytest.approx([0.6] * 10 + [0.0] * 3)
    assert all(0.35 <= score < 0.5 for score in held[13:30])  # from the fourth silent window on, for 640 ms in all
    assert held[30:].tolist() == [0.0] * 20
    ended = scored(stage(), windows((0.9, 10), (0.0, 40)))
    assert ended[10:].tolist() == [0.0] * 40


def test_the_model_is_asked_once_a_pause_and_never_before_speech():
    model = Louder()
    scored(stage(model=model), windows((0.0, 50), (0.6, 5), (0.0, 60), (0.9, 5), (0.0, 60), (0.4, 5), (0.0, 20)))
    assert model.asked == [1, 1]


def test_an_unfinished_turn_is_one_segment_with_what_follows():
    def segments(scores):
        endpointer = Endpointer(VadConfig(redemption_time_ms=200, pre_speech_pad_ms=0), RATE)
        events = [event for score in scores.tolist() for event in endpointer.push(WINDOW, score)]
        return [event for event in [*events, *endpointer.finish()] if isinstance(event, SpeechOffset)]

    data = windows((0.6, 10), (0.0, 15), (0.9, 10), (0.0, 40))
    assert len(segments(scored(Loud(), data))) == 2
    [one] = segments(scored(stage(), data))
    assert one.end == 35 * WINDOW


levels = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.6, 0.9]), st.integers(1, 12)), min_size=1, max_size=8)


@settings(max_examples=40)
@given(levels, levels, st.integers(1, 9))
def test_a_streams_cut_and_its_neighbours_change_nothing(mine, others, size):
    data, other = windows(*mine), windows(*others)
    expected = scored(stage(), data)
    scorer = stage()
    neighbour, row = scorer.open(), scorer.open()
    got = []
    for at in range(0, len(data), size):
        part = data[at : at + size]
        company = other[at : at + 1] if at < len(other) else other[:1]
        got.append(scorer.score_windows([neighbour, row], [1, len(part)], np.concatenate([company, part]))[1:])
    assert np.concatenate(got).tolist() == expected.tolist()
    scorer.reset(row)
    assert scorer.score([(row, data.ravel())])[0].tolist() == expected.tolist()
    scorer.close(row)


def test_the_last_eight_seconds_are_heard_in_their_order():
    heard = []

    class Model:
        def ended(self, audio):
            heard.extend(audio)
            return [1.0] * len(audio)

    ramp = np.repeat(np.linspace(0.51, 0.99, 300, dtype=np.float32), WINDOW)  # 9.6 s
    scored(stage(model=Model()), np.concatenate([ramp, np.zeros(10 * WINDOW, np.float32)]).reshape(-1, WINDOW))
    [audio] = heard
    expected = np.concatenate([ramp, np.zeros(4 * WINDOW, np.float32)])[-8 * RATE :]
    assert np.abs(audio - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("numbers", "words"),
    [({"threshold": 2}, "turn.threshold: expected a number from 0 to 1"), ({"after_ms": -1}, "turn.after_ms")],
)
def test_a_number_out_of_its_range_is_named(numbers, words):
    with pytest.raises(BadRequest, match=words):
        TurnConfig(**numbers)


def test_what_cannot_be_is_told_when_the_server_is_built(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    for turn, words in (
        ({"model": "/nowhere.onnx"}, "turn.model: expected smart_turn, or the path of an onnx file, got '/nowhere"),
        ({"model": str(tmp_path / "model.onnx")}, "turn.model: expected a network of Smart Turn v3"),
        ({"model": "smart_turn", "after_ms": 600}, r"turn.after_ms: expected less than vad.redemption_time_ms \(600\)"),
    ):
        with pytest.raises(ConfigError, match=words):
            App(Settings(server={"port": 0}, turn=turn))


def smart_turn():
    """The real network: of the package, or of the file that STREAMER_TEST_SMART_TURN names."""
    pytest.importorskip("onnxruntime")
    if path := os.environ.get("STREAMER_TEST_SMART_TURN"):
        return SmartTurn(Path(path))
    try:
        return make_turn_model("smart_turn")
    except ConfigError as error:
        pytest.skip(error.message)


def test_smart_turn_tells_a_whole_sentence_from_one_that_is_cut():
    samples = real(SAMPLE.name)
    whole, cut = samples[: int(2.8 * RATE)], samples[: int(1.9 * RATE)]
    model = smart_turn()
    together = model.ended([whole, cut])
    assert together == pytest.approx([model.ended([whole])[0], model.ended([cut])[0]], abs=1e-3)
    assert together[0] > 0.5 > together[1]
