"""Moonshine with its real weights: what it hears, in company as alone; how it answers silence, noise, long audio."""

import importlib.util
from importlib.resources import as_file

import numpy as np
import pytest

from streamer.audio.files import read_audio
from streamer.errors import ConfigError, ModelLoadError
from streamer.models.contract import AudioSegment
from streamer.models.loading import ModelSpec, load_model
from streamer.models.moonshine_network import _loop, _similar
from streamer.samples import sample
from streamer.transcripts.transcript import Transcript

pytest.importorskip("onnxruntime")
if importlib.util.find_spec("moonshine_voice") is None:
    pytest.skip("the weights are not installed: pip install moonshine-voice==0.0.73", allow_module_level=True)

WEATHER = "The weather today is cold and dark."
KITCHEN = "Please turn on the light in the kitchen."


@pytest.fixture(scope="module")
def recogniser():
    model = load_model("moonshine")
    model.load()
    yield model
    model.unload()


@pytest.fixture(scope="module")
def speech():
    """The two sentences of the recording that comes with Streamer."""
    with as_file(sample()) as path:
        audio = read_audio(path)
    assert audio.sample_rate == 16_000
    samples = audio.samples[0]
    return samples[: 3 * 16_000], samples[3 * 16_000 :]


def segment(samples, is_final=True):
    return AudioSegment(np.asarray(samples, np.float32), 16_000, 160_000, is_final, "s", 0, {})


def test_speech_is_heard_right_and_with_confidence(recogniser, speech):
    answers = [recogniser.infer([segment(samples)])[0] for samples in speech]
    assert [answer.text for answer in answers] == [WEATHER, KITCHEN]
    assert all(0.8 < answer.confidence <= 1 for answer in answers)


def test_segments_of_any_length_decoded_together_are_heard_as_alone(recogniser, speech):
    weather, kitchen = speech
    batch = [weather, kitchen[:0], kitchen, np.zeros(100), weather]
    together = recogniser.infer([segment(samples) for samples in batch])
    alone = [recogniser.infer([segment(samples)])[0] for samples in batch]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_an_interim_hears_the_beginning(recogniser, speech):
    [answer] = recogniser.infer([segment(speech[0][: 16_000 * 2], is_final=False)])
    assert WEATHER.lower().startswith(answer.text.lower().rstrip(".")[:11])


def test_silence_and_noise_are_empty_text(recogniser):
    noise = np.random.default_rng(1).normal(0, 0.1, 16_000 * 20)
    for samples in ([], [0.0], np.zeros(16_000), np.zeros(16_000 * 10), noise):
        assert recogniser.infer([segment(samples)]) == [Transcript("")]


def test_long_audio_is_cut_where_it_is_quiet_and_all_of_it_is_heard(recogniser, speech):
    pause = np.zeros(8_000, np.float32)
    long = np.concatenate([piece for _ in range(10) for piece in (*speech, pause)])
    assert len(long) > 60 * 16_000
    [answer] = recogniser.infer([segment(long)])
    assert answer.text.lower().count("light in the kitchen") == 10
    assert answer.text.lower().count("dark") == 10


def test_a_loop_is_seen_and_honest_repetition_is_not():
    assert _loop([5, 6, 7] * 6) == 3
    assert _loop([1, 2, *[9] * 10]) == 1
    assert _loop([1, 2, 3, 4] * 4) == 4
    for honest in ([], [9] * 9, [1, 2] * 7, [1, 2, 3, 4] * 3, list(range(100))):
        assert _loop(honest) is None


def test_segments_share_a_call_with_none_half_as_long():
    lengths = [10, 100, 40, 60, 0, 5, 21]
    groups = _similar(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert 2 * min(lengths[index] for index in group) >= max(lengths[index] for index in group)


def test_weights_come_by_name_or_from_a_directory(recogniser, speech, tmp_path):
    directory = load_model("moonshine:tiny-en").fetch()
    named = load_model(f"moonshine:{directory}")
    named.load()
    assert named.infer([segment(speech[0])])[0].text == WEATHER
    assert ModelSpec(f"moonshine:{directory}").load().name == "moonshine"
    with pytest.raises(ConfigError, match="tiny-en, base-en"):
        load_model("moonshine:giant-en").load()
    with pytest.raises(ModelLoadError, match=r"no encoder .* found: nothing"):
        load_model(f"moonshine:{tmp_path}").load()
    (tmp_path / "tokenizer.bin").write_bytes(b"")
    for name in ("encoder_model.ort", "decoder_model_merged.ort"):
        (tmp_path / name).write_bytes(b"no network")
    with pytest.raises(ModelLoadError, match="no Moonshine networks that can be read"):
        load_model(f"moonshine:{tmp_path}").load()


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(
        ModelLoadError, match=r"onnxruntime is not installed: pip install 'streamer-audio\[moonshine\]'"
    ):
        load_model("moonshine").load()
