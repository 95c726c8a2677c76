"""Error rates: what counts as an error after normalisation, and that counts add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadRequest
from streamer.evaluation.accuracy import Counts, Difference, compare, normaliser
from streamer.evaluation.page import page
from streamer.evaluation.report import File, Latency, report

pytest.importorskip("jiwer")
pytest.importorskip("whisper_normalizer")


def test_spellings_that_mean_the_same_are_no_errors():
    english = normaliser("english")
    accuracy = compare("Mister Dashwood's colour is twenty-one", "mr. Dashwood's color, is 21!", english)
    assert accuracy.words.errors == accuracy.characters.errors == 0
    assert accuracy.words.total == 6
    assert compare("Grüße, Ärger!", "grüße ärger", normaliser("basic")).words.rate == 0
    assert compare("A  b", "a b", normaliser("none")).words.rate == 0.5


def test_every_kind_of_error_is_counted_and_marked():
    accuracy = compare("the cat sat down", "a cat sat right", normaliser("none"))
    assert accuracy.words == Counts(2, 0, 0, 4)
    assert accuracy.differences == [
        Difference("substitute", "the", "a"),
        Difference("equal", "cat sat", "cat sat"),
        Difference("substitute", "down", "right"),
    ]
    assert compare("a b", "b", normaliser("none")).words == Counts(0, 1, 0, 2)
    assert compare("b", "a b", normaliser("none")).words == Counts(0, 0, 1, 1)


def test_silence_in_which_something_is_heard_is_all_wrong():
    accuracy = compare("", "you there", normaliser("english"))
    assert (accuracy.words, accuracy.words.rate) == (Counts(insertions=2), 1.0)
    assert compare("", "", normaliser("english")).words.rate == 0.0


texts = st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=6).map(" ".join)


@given(texts, texts)
def test_marked_words_are_those_said_and_those_heard(said, heard):
    accuracy = compare(said, heard, normaliser("none"))
    assert " ".join(part.reference for part in accuracy.differences if part.reference) == said
    assert " ".join(part.hypothesis for part in accuracy.differences if part.hypothesis) == heard
    assert accuracy.words.total == len(said.split())
    assert (accuracy.words.errors == 0) == (said == heard)


def test_rates_of_all_files_weigh_words_and_not_files():
    files = [
        File(name, 2.0, said, heard, compare(said, heard, normaliser("none")), [0.5], [1.0])
        for name, said, heard in (("a<b>", "a b c d e f g h", "a b c d e f g h"), ("c", "a b", "x <b>"))
    ]
    found = report(files, model="m", normaliser="none", wall_s=1.0, cpu_s=2.0, jobs=2, streams=1, failed={"d": "no"})
    assert found.word_error_rate == 0.2
    assert (found.real_time_factor, found.cpu_factor) == (0.25, 0.5)
    assert found.final == Latency(2, 1000.0, 1000.0, 1000.0)
    html = page(found)
    assert "a&lt;b&gt;" in html
    assert "<del>a b</del> <ins>x &lt;b&gt;</ins>" in html
    assert "20.00 %" in html
    assert Latency.of([]) == Latency(0)


def test_a_normaliser_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(BadRequest, match="--normaliser: expected english, basic or none, got 'german'"):
        normaliser("german")


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(BadRequest, match=r"jiwer is not installed: pip install 'streamer\[evaluate\]'"):
        compare("a", "a", normaliser("none"))
