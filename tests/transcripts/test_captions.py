"""Captions keep the broadcasters' rules, whatever the words and their times."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.transcripts.captions import LINE, LINES, MAX_S, MIN_S, cues
from streamer.transcripts.formats import FORMATS, Part
from streamer.transcripts.transcript import Transcript, Word, estimate_words


@st.composite
def spoken(draw):
    """Words one after the other, quick and slow, short and longer than a line, with pauses."""
    words, at = [], 0.0
    for _ in range(draw(st.integers(0, 40))):
        text = draw(st.text("abc", min_size=1, max_size=draw(st.sampled_from([3, 12, 100]))))
        text += draw(st.sampled_from(["", "", "", ",", "."]))
        at += draw(st.sampled_from([0.0, 0.0, 0.05, 0.4, 2.0]))
        length = draw(st.sampled_from([0.0, 0.1, 0.3, 1.0, 9.0]))
        words.append(Word(text, at, at + length))
        at += length
    return words


@given(spoken())
def test_cues_keep_the_rules_and_lose_no_word(words):
    shown = cues(words)
    assert "".join("".join(cue.text.split()) for cue in shown) == "".join(word.word for word in words)
    for cue in shown:
        assert len(cue.lines) <= LINES
        assert all(0 < len(line) <= LINE for line in cue.lines)
        assert cue.end_time - cue.start_time >= MIN_S - 1e-3
    for before, after in pairwise(shown):
        assert before.end_time <= after.start_time


@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=60))
def test_unhurried_speech_stays_no_longer_than_the_most(parts):
    words = [Word(text, 0.4 * n, 0.4 * n + 0.3) for n, text in enumerate(parts)]
    assert all(cue.end_time - cue.start_time <= MAX_S for cue in cues(words))


def test_lines_break_at_clauses_and_cues_after_sentences():
    text = "What your country can do for you, ask what you can do for your country. Thank you."
    shown = cues(estimate_words(text, 0.0, 8.0))
    assert [cue.lines for cue in shown] == [
        ("What your country can do for you,", "ask what you can do for your country."),
        ("Thank you.",),
    ]


PARTS = [
    Part.of(Transcript("Hello <you> & me."), 1.0, 2.5),
    Part.of(Transcript(""), 3.0, 3.5),
    Part.of(Transcript("Bye.", [Word("Bye.", 3661.5, 3661.75, confidence=0.5)]), 3661.0, 3662.0),
]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("txt", "Hello <you> & me.\nBye.\n"),
        (
            "srt",
            "1\n00:00:01,000 --> 00:00:02,500\nHello <you> & me.\n\n2\n01:01:01,500 --> 01:01:02,500\nBye.\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:01.000 --> 00:00:02.500\nHello &lt;you&gt; &amp; me.\n"
            "\n01:01:01.500 --> 01:01:02.500\nBye.\n",
        ),
        ("tsv", "start\tend\ttext\n1000\t2500\tHello <you> & me.\n3661000\t3662000\tBye.\n"),
    ],
)
def test_formats_are_what_players_read(name, text):
    assert FORMATS[name](PARTS) == text


def test_json_has_the_segments_with_their_words():
    import json

    document = json.loads(FORMATS["json"](PARTS))
    assert document["text"] == "Hello <you> & me. Bye."
    assert [segment["text"] for segment in document["segments"]] == ["Hello <you> & me.", "", "Bye."]
    assert document["segments"][2]["words"] == [
        {"word": "Bye.", "start_time": 3661.5, "end_time": 3661.75, "confidence": 0.5}
    ]


def test_nothing_said_is_an_empty_file_of_its_kind():
    assert [FORMATS[name]([]) for name in ("txt", "srt", "vtt", "tsv")] == ["", "", "WEBVTT\n", "start\tend\ttext\n"]
