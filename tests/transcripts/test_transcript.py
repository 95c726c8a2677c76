"""The shape of a transcript: what is read as one, times that shift, times that are estimated."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transcripts.transcript import Transcript, Word, estimate_words, read_transcript, shift_words, words_of


def test_only_what_is_set_goes_on_the_wire():
    said = Transcript("Hi there.", [Word("Hi", 0.5, 0.75, confidence=0.5)], language="en")
    assert msgspec.json.decode(msgspec.json.encode(said)) == {
        "text": "Hi there.",
        "words": [{"word": "Hi", "start_time": 0.5, "end_time": 0.75, "confidence": 0.5}],
        "language": "en",
    }
    assert msgspec.json.encode(Transcript("")) == b'{"text":""}'


def test_shifting_moves_every_word_and_leaves_the_original():
    said = Transcript("a b", [Word("a", 0.0, 0.1), Word("b", 0.2, 0.4)])
    assert [(word.start_time, word.end_time) for word in shift_words(said, 1.5).words] == [(1.5, 1.6), (1.7, 1.9)]
    assert said.words[0].start_time == 0.0


@given(st.lists(st.text("abcé", min_size=1), max_size=8), st.floats(0, 1000), st.floats(0.1, 30))
def test_estimated_times_tile_the_segment_in_order(parts, start, length):
    words = estimate_words(" ".join(parts), start, start + length)
    assert [word.word for word in words] == parts
    if words:
        assert words[0].start_time == pytest.approx(start, abs=1e-3)
        assert words[-1].end_time == pytest.approx(start + length, abs=1e-3)
    for before, after in pairwise(words):
        assert before.start_time <= before.end_time == after.start_time


def test_words_of_the_model_go_before_estimated_ones():
    said = Transcript("a b", [Word("a", 0.3, 0.4)])
    assert words_of(said, 0, 1) == said.words
    assert [word.word for word in words_of(Transcript("a b"), 0, 1)] == ["a", "b"]


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (" said ", Transcript("said")),
        ({"text": " said", "count": 3}, Transcript("said")),
        (
            {"text": "a", "words": [{"word": "a", "start_time": 1, "end_time": 2}]},
            Transcript("a", [Word("a", 1.0, 2.0)]),
        ),
        ({"count": 3}, None),
        ({"text": 5}, None),
        (None, None),
        ([1], None),
    ],
)
def test_a_string_or_an_object_with_a_text_is_a_transcript(output, read):
    assert read_transcript(output) == read
