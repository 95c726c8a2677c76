"""Pocketsphinx recognises real speech, with words and times; interims too."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer.errors import ModelLoadError
from streamer.models.contract import AudioSegment
from streamer.models.loading import load_model
from streamer.transcripts.transcript import Transcript

AUDIO = Path(__file__).parents[3] / "shared" / "audio"
TRANSCRIPTS = {
    "0870": "and mister john dashwood had then leisure to consider how much there might be prudently in his power "
    "to do for them",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0930": "he might even have been made amiable himself",
}


@pytest.fixture(scope="module")
def recogniser():
    pytest.importorskip("pocketsphinx")
    model = load_model("pocketsphinx")
    model.load()
    return model


def segment(samples, start=0, is_final=True):
    return AudioSegment(np.asarray(samples, np.float32), 16_000, start, is_final, "s", 0, {})


def read(name):
    path = AUDIO / f"librivox-{name}.wav"
    if not path.exists():
        pytest.skip(f"no recording at {path}")
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16_000
    return samples


def word_errors(reference, heard):
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]


def test_read_english_is_recognised_with_a_third_of_words_wrong_at_most(recogniser):
    errors = words = 0
    for name, transcript in TRANSCRIPTS.items():
        [answer] = recogniser.infer([segment(read(name))])
        errors += word_errors(transcript.split(), answer.text.split())
        words += len(transcript.split())
    assert errors / words < 0.34


def test_word_times_count_from_the_segments_start_and_rise(recogniser):
    samples = read("0930")
    [answer] = recogniser.infer([segment(samples, start=160_000)])
    assert answer.text.split() == [word.word for word in answer.words]
    times = [t for word in answer.words for t in (word.start_time, word.end_time)]
    assert times == sorted(times)
    assert 0.0 <= times[0] < times[-1] <= len(samples) / 16_000 + 0.05
    assert all(0 <= word.confidence <= 1 for word in answer.words)
    assert len({word.confidence for word in answer.words}) > 1


def test_interim_hears_the_beginning(recogniser):
    [answer] = recogniser.infer([segment(read("0930")[:16_000], is_final=False)])
    assert answer.text.startswith("he might")


def test_answer_depends_on_nothing_heard_before(recogniser):
    samples = read("0930")[:20_000]
    [first] = recogniser.infer([segment(samples)])
    recogniser.infer([segment(read("0890")[:20_000])])
    [again] = recogniser.infer([segment(samples)])
    assert again == first


@pytest.mark.parametrize("samples", [[], [0.0] * 10, [0.0] * 16_000, [2.0, -2.0] * 4_000])
def test_no_speech_is_empty_text(recogniser, samples):
    [answer] = recogniser.infer([segment(samples)])
    assert answer == Transcript("") or answer.words


def test_wrong_settings_are_named():
    pytest.importorskip("pocketsphinx")
    with pytest.raises(ModelLoadError, match="rejected the settings"):
        load_model("pocketsphinx", {"settings": {"hmm": "/nowhere"}}).load()
