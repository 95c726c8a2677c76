"""The rules of endpointing, one by one with plain values, and what must hold for every sequence of windows."""

from __future__ import annotations

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.vad.endpointer import Endpointer, SpeechOffset, SpeechOnset
from streamer.vad.settings import VadConfig

RATE = 1000  # one sample per millisecond: positions read as times
WINDOW = 30

VOICE, BETWEEN, SILENCE = 0.9, 0.4, 0.1

Events = list[SpeechOnset | SpeechOffset]


def endpointer(**changes: float) -> Endpointer:
    """Two windows make speech, three silent ones end it, no pads."""
    config = VadConfig(
        pre_speech_pad_ms=0, redemption_time_ms=2 * WINDOW, min_speech_time_ms=WINDOW, max_speech_time_ms=10_000
    )
    return Endpointer(dataclasses.replace(config, **changes), RATE)


def push(machine: Endpointer, *probabilities: float) -> Events:
    return [event for p in probabilities for event in machine.push(WINDOW, p)]


# --- a candidate


def test_silence_gives_no_event() -> None:
    assert push(endpointer(), *[SILENCE] * 100) == []


def test_a_window_must_be_above_the_positive_threshold_to_open() -> None:
    assert push(endpointer(), *[0.5] * 10) == []
    assert push(endpointer(), *[0.51] * 3) == [SpeechOnset(0)]


def test_the_opening_window_does_not_count_as_speech_time() -> None:
    machine = endpointer(min_speech_time_ms=2 * WINDOW)
    assert push(machine, VOICE, VOICE, VOICE) == []  # two counted: not more than the minimum
    assert push(machine, VOICE) == [SpeechOnset(0)]


def test_windows_between_the_thresholds_keep_a_candidate_alive() -> None:
    assert push(endpointer(), SILENCE, VOICE, BETWEEN, BETWEEN) == [SpeechOnset(WINDOW)]


def test_a_silent_window_drops_a_candidate() -> None:
    machine = endpointer(min_speech_time_ms=2 * WINDOW)
    assert push(machine, VOICE, VOICE, SILENCE, VOICE, VOICE, SILENCE) == []
    assert not machine.speaking


def test_a_silent_window_that_exceeds_the_minimum_makes_speech_first() -> None:
    assert push(endpointer(min_speech_time_ms=0), VOICE, SILENCE) == [SpeechOnset(0)]


def test_one_window_gives_no_second_event() -> None:
    machine = endpointer(min_speech_time_ms=0, redemption_time_ms=0)
    assert push(machine, VOICE, SILENCE) == [SpeechOnset(0)]  # this silence would end it as well
    assert push(machine, SILENCE) == [SpeechOffset(0, WINDOW)]


def test_speech_begins_before_its_first_window_by_the_pad() -> None:
    machine = endpointer(pre_speech_pad_ms=100)
    assert push(machine, *[SILENCE] * 5, *[VOICE] * 3) == [SpeechOnset(5 * WINDOW - 100)]


def test_the_pad_does_not_reach_before_the_stream() -> None:
    assert push(endpointer(pre_speech_pad_ms=600), SILENCE, *[VOICE] * 3) == [SpeechOnset(0)]


def test_the_pad_does_not_reach_into_the_last_speech() -> None:
    machine = endpointer(pre_speech_pad_ms=600)
    events = push(machine, *[VOICE] * 3, *[SILENCE] * 3, *[VOICE] * 3)
    assert events == [SpeechOnset(0), SpeechOffset(0, 90), SpeechOnset(90)]


# --- the end


def test_speech_ends_when_silence_exceeds_the_redemption_time() -> None:
    machine = endpointer()
    assert push(machine, *[VOICE] * 3, SILENCE, SILENCE) == [SpeechOnset(0)]
    assert push(machine, SILENCE) == [SpeechOffset(0, 3 * WINDOW)]
    assert not machine.speaking


def test_a_window_between_the_thresholds_sets_the_silence_back() -> None:
    machine = endpointer()
    push(machine, *[VOICE] * 3, SILENCE, SILENCE, BETWEEN, SILENCE, SILENCE)
    assert machine.speaking
    assert push(machine, SILENCE) == [SpeechOffset(0, 6 * WINDOW)]


def test_the_negative_threshold_itself_is_not_silence() -> None:
    machine = endpointer(negative_speech_threshold=0.25)
    push(machine, *[VOICE] * 3, *[0.25] * 50)
    assert machine.speaking


def test_the_end_has_the_pad_but_no_audio_that_was_not_received() -> None:
    assert push(endpointer(post_speech_pad_ms=40), *[VOICE] * 3, *[SILENCE] * 3)[-1] == SpeechOffset(0, 130)
    assert push(endpointer(post_speech_pad_ms=500), *[VOICE] * 3, *[SILENCE] * 3)[-1] == SpeechOffset(0, 180)


def test_finish_ends_speech_where_the_audio_ends() -> None:
    machine = endpointer()
    push(machine, *[VOICE] * 3, SILENCE)
    assert machine.finish() == [SpeechOffset(0, 4 * WINDOW)]
    assert machine.finish() == []


def test_finish_drops_a_candidate() -> None:
    machine = endpointer()
    push(machine, VOICE)
    assert machine.finish() == []
    assert push(machine, BETWEEN, BETWEEN) == []


def test_speech_after_finish_starts_no_earlier_than_the_end() -> None:
    machine = endpointer(pre_speech_pad_ms=600)
    push(machine, *[VOICE] * 3)
    machine.finish()
    assert push(machine, *[VOICE] * 3) == [SpeechOnset(3 * WINDOW)]


# --- the longest speech


def test_long_speech_is_cut_without_a_gap() -> None:
    machine = endpointer(max_speech_time_ms=100)
    assert push(machine, *[VOICE] * 8) == [
        SpeechOnset(0), SpeechOffset(0, 100), SpeechOnset(100), SpeechOffset(100, 200), SpeechOnset(200),
    ]  # fmt: skip
    assert machine.speech_start == 200
    assert machine.finish() == [SpeechOffset(200, 240)]


def test_the_cut_waits_for_a_voiced_window() -> None:
    machine = endpointer(max_speech_time_ms=100)
    assert push(machine, *[VOICE] * 3, SILENCE, SILENCE) == [SpeechOnset(0)]
    assert push(machine, SILENCE) == [SpeechOffset(0, 90)]  # no cut: the silence was not speech


def test_a_pad_does_not_make_speech_longer_than_the_longest() -> None:
    machine = endpointer(max_speech_time_ms=100, post_speech_pad_ms=50)
    events = push(machine, *[VOICE] * 3, *[SILENCE] * 3)
    assert events == [SpeechOnset(0), SpeechOffset(0, 100), SpeechOnset(100), SpeechOffset(100, 140)]


def test_a_pad_longer_than_the_longest_speech_is_cut_too() -> None:
    machine = endpointer(max_speech_time_ms=100, pre_speech_pad_ms=250)
    push(machine, *[SILENCE] * 10, *[VOICE] * 3)  # speech from 50 to 390
    assert machine.finish() == [
        SpeechOffset(50, 150), SpeechOnset(150), SpeechOffset(150, 250), SpeechOnset(250),
        SpeechOffset(250, 350), SpeechOnset(350), SpeechOffset(350, 390),
    ]  # fmt: skip


# --- what may be forgotten


def test_idle_needs_only_the_pad() -> None:
    machine = endpointer(pre_speech_pad_ms=100)
    push(machine, *[SILENCE] * 1000)
    assert machine.needed_from == 1000 * WINDOW - 100


def test_a_candidate_needs_its_pad() -> None:
    machine = endpointer(pre_speech_pad_ms=100, min_speech_time_ms=500)
    push(machine, *[SILENCE] * 10, *[VOICE] * 5)
    assert machine.needed_from == 10 * WINDOW - 100


def test_times_are_rounded_to_samples() -> None:
    machine = Endpointer(VadConfig(pre_speech_pad_ms=0.26, min_speech_time_ms=0), 16_000)  # 4.16 samples
    machine.push(512, SILENCE)
    assert [*machine.push(512, VOICE), *machine.push(512, VOICE)] == [SpeechOnset(508)]


# --- what holds for every sequence

CONFIGS = st.builds(
    VadConfig,
    pre_speech_pad_ms=st.integers(0, 300),
    post_speech_pad_ms=st.integers(0, 300),
    redemption_time_ms=st.integers(0, 200),
    min_speech_time_ms=st.integers(0, 99),
    max_speech_time_ms=st.integers(100, 1000),
)
# Runs of one loudness, as speech has them; None is a flush.
RUNS = st.lists(
    st.tuples(st.sampled_from([VOICE, BETWEEN, SILENCE, None]), st.integers(1, 40), st.integers(1, 60)), max_size=40
)


@settings(max_examples=300, deadline=None)
@given(config=CONFIGS, runs=RUNS)
def test_events_alternate_advance_and_stay_within_the_audio(
    config: VadConfig, runs: list[tuple[float | None, int, int]]
) -> None:
    machine = Endpointer(config, RATE)
    open_at: int | None = None
    last_end = needed = 0
    for loudness, count, window in runs:
        for _ in range(count if loudness is not None else 1):
            before = needed
            events = machine.finish() if loudness is None else machine.push(window, loudness)
            for event in events:
                if isinstance(event, SpeechOnset):
                    assert open_at is None
                    assert event.start >= last_end
                    assert event.start >= before, "audio of this speech was already forgotten"
                    open_at = event.start
                else:
                    assert event.start == open_at
                    assert event.start < event.end <= machine.position
                    assert event.end - event.start <= config.max_speech_time_ms
                    assert event.start >= before
                    open_at, last_end = None, event.end
            needed = machine.needed_from
            assert before <= needed <= machine.position
            assert machine.speaking == (open_at is not None)
            if open_at is not None:
                assert machine.speech_start == open_at
                bound = config.max_speech_time_ms + config.redemption_time_ms + config.pre_speech_pad_ms + 2 * 60 + 99
                assert machine.position - needed <= bound
    machine.finish()
    assert not machine.speaking


@settings(max_examples=100, deadline=None)
@given(windows=st.lists(st.integers(1, 60), min_size=10, max_size=200), longest=st.integers(100, 500))
def test_forced_cuts_leave_no_gap(windows: list[int], longest: int) -> None:
    machine = endpointer(max_speech_time_ms=longest)
    events = [event for window in windows for event in machine.push(window, VOICE)] + machine.finish()
    ended = [event for event in events if isinstance(event, SpeechOffset)]
    assert all(a.end == b.start for a, b in itertools.pairwise(ended))
    assert all(piece.end - piece.start == longest for piece in ended[:-1])
    if ended:
        assert (ended[0].start, ended[-1].end) == (0, sum(windows))
