"""Stable interims: what was stable once stays, and a final for appending clients begins with it."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.transcripts.stability import Agreement, agreed, steady, steady_final
from streamer.transcripts.transcript import Transcript, Word

interims = st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join), max_size=8)


@given(interims, st.lists(st.sampled_from(["a", "b", "c"]), max_size=6).map(" ".join), st.sampled_from([" ", ""]))
def test_stable_text_never_shrinks_and_begins_every_later_answer(said, last, separator):
    agreement, stable = Agreement(), ""
    for text in said:
        agreement, shown = steady(agreement, Transcript(text.replace(" ", separator)), separator)
        assert shown.text.startswith(stable)
        assert 0 <= shown.stable <= len(shown.text)
        assert len(stable) <= shown.stable
        stable = shown.text[: shown.stable]
    final = steady_final(agreement, Transcript(last.replace(" ", separator)), separator)
    assert final.text.startswith(stable)
    assert final.stable == len(final.text)


@given(interims)
def test_what_two_interims_in_a_row_agree_on_is_stable(said):
    agreement, previous = Agreement(), ()
    for text in said:
        words = tuple(text.split())
        before = agreement
        agreement = agreement.update(words)
        if before.stable == words[: len(before.stable)] == previous[: len(before.stable)]:
            assert agreement.stable == words[: max(len(before.stable), agreed(previous, words))]
        previous = words


def test_interims_that_only_grow_are_never_rewritten():
    agreement = Agreement()
    shown = []
    for text in ("the", "the cat", "the cat sat", "the cat sat"):
        agreement, interim = steady(agreement, Transcript(text))
        shown.append((interim.text, interim.stable))
    assert shown == [("the", 0), ("the cat", 3), ("the cat sat", 7), ("the cat sat", 11)]


def test_a_final_that_contradicts_stable_words_keeps_them_for_appending_clients():
    agreement = Agreement()
    for text in ("their house", "their house is"):
        agreement, _ = steady(agreement, Transcript(text))
    words = [Word(word, at, at + 1.0) for at, word in enumerate(["there", "house", "is", "big"])]
    final = Transcript("there house is big", words)
    kept = steady_final(agreement, final)
    assert kept.text == "their house is big"
    assert [word.word for word in kept.words] == kept.text.split()
    assert kept.words[0].end_time == 1.0
    assert final.text == "there house is big"
