"""Nothing is lost or answered twice unseen, and the endpointing's share is what the endpointer takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.client.events import Error, Finished, ModelInfo, Segment, Started
from streamer.loadtest.endpointing import EndpointingModel
from streamer.loadtest.frame_ledger import FrameLedger
from streamer.session.events import Mode
from streamer.vad.endpointer import Endpointer, SpeechOffset
from streamer.vad.settings import VadConfig

RATE = 8_000


def piece(start, end, output=None):
    return Segment(0, 1, start, end, True, output)


def account(*events, simple=True):
    books = FrameLedger(RATE, contiguous=simple)
    for event in events:
        {Segment: books.on_result, Error: books.on_error, Finished: books.on_finished, Started: books.on_started}[
            type(event)
        ](event)
    return books


def test_pieces_that_touch_and_cover_everything_are_clean():
    balance = account(piece(0, 0.5), piece(0.5, 1)).balance(RATE, ended_well=True)
    assert balance.is_clean


def test_a_gap_and_a_missing_end_are_lost_and_an_overlap_is_doubled():
    balance = account(piece(0, 0.5), piece(0.75, 1), piece(0.9, 1.5)).balance(2 * RATE, ended_well=True)
    assert (balance.lost, balance.doubled) == (0.75 * RATE, round(0.1 * RATE))
    assert not balance.is_clean


def test_an_error_that_names_its_range_is_no_loss():
    failed = Error("model_error", "m", False, True, 0, 0.5, 1.0)
    balance = account(piece(0, 0.5), failed).balance(RATE, ended_well=True)
    assert balance.is_clean
    assert balance.failed == 1


def test_utterances_may_have_gaps_but_not_overlap():
    assert account(piece(1, 2), piece(3, 4), simple=False).balance(5 * RATE, ended_well=True).is_clean
    assert account(piece(1, 2), piece(1, 2), simple=False).balance(5 * RATE, ended_well=True).doubled == RATE


def test_the_sum_of_v2_tells_of_frames_that_no_segment_covers():
    done = Finished("stopped", RATE, RATE - 100, 1, 0)
    assert account(piece(0, 1), done, simple=False).balance(RATE, ended_well=True).lost == 100


def test_the_stub_counts_what_it_saw():
    model = Started("s", Mode.SIMPLE, ModelInfo("stub", 16_000), {})
    good, bad = piece(0, 0.5, {"count": 8_000}), piece(0.5, 1, {"count": 7_999})
    assert account(model, good, bad).balance(RATE, ended_well=True).miscounted == 1
    assert account(good, bad).balance(RATE, ended_well=True).miscounted == 0


def test_a_stream_without_a_good_end_is_not_clean():
    assert not account(piece(0, 1)).balance(RATE, ended_well=False).is_clean


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([0.0, 0.4, 0.9]), min_size=20, max_size=150),
    st.sampled_from([100, 600, 640, 601]),
    st.sampled_from([0, 50]),
)
def test_an_end_is_decided_when_the_endpointer_says_it(probabilities, redemption_ms, pad_ms):
    config = VadConfig(redemption_time_ms=redemption_ms, post_speech_pad_ms=pad_ms)
    endpointer = Endpointer(config, 16_000)
    share = EndpointingModel(redemption_ms, pad_ms)
    for probability in [*probabilities, *[0.0] * 30]:
        for event in endpointer.push(512, probability):
            if isinstance(event, SpeechOffset):
                decided = share.decision_s(event.start / 16_000, event.end / 16_000)
                assert decided == pytest.approx(endpointer.position / 16_000)


def test_an_utterance_cut_at_its_greatest_length_has_no_such_moment():
    assert EndpointingModel(max_speech_ms=5_000).decision_s(1.0, 6.0) is None
