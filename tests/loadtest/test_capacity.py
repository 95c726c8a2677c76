"""The search ends near the truth, and a goal says why it was missed."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.loadtest.capacity import TOLERANCE, Goal, Search
from streamer.loadtest.diagnostics import diagnose, search_end_text
from streamer.loadtest.results import (
    CapacityResult,
    FrameCounts,
    LoadReport,
    LoadStep,
    LoadUse,
    MachineInfo,
    WorkloadInfo,
)
from streamer.loadtest.statistics import distribution

EMPTY = distribution(np.zeros(0))


def step(final_ms=(10.0,), *, late_ms=0.1, lost=0, opened=10):
    return LoadStep(
        streams=10, opened=opened, seconds=5, connect=EMPTY, first=EMPTY, interim=EMPTY,
        final=distribution(np.array(final_ms) / 1e3), final_whole=EMPTY, lag=EMPTY,
        frames=FrameCounts(100, lost, 0, 0, 0, 0), early=0, cut=0, refused={}, errors={}, endings={}, server=None,
        load=LoadUse(1, 0.1, distribution(np.array([late_ms / 1e3]))), others_cores=None, timeline=(), each=(),
    )  # fmt: skip


@given(st.integers(1, 900), st.integers(1, 200), st.integers(1, 1_000))
def test_the_most_that_hold_are_found_nearly(truth, first, limit):
    search, tried = Search(first, limit), 0
    while (streams := search.next) is not None:
        assert 1 <= streams <= limit
        search.record(streams <= truth)
        tried += 1
        assert tried < 60
    assert search.max_passed <= min(truth, limit)
    if search.min_failed is None:
        assert search.max_passed == limit
    else:
        assert search.min_failed > truth
        assert search.min_failed - search.max_passed <= max(1, TOLERANCE * search.max_passed)


def test_one_failure_is_tried_again():
    search = Search(10, 20)
    search.record(False)
    assert search.next == 10
    search.record(True)
    assert (search.next, search.max_passed) == (20, 10)


@pytest.mark.parametrize(
    "text", ["", "p99_final", "p98_final_ms=3", "p99_late_ms=3", "p99_final_ms=0", "p99_final_ms=x"]
)
def test_what_is_no_goal_is_refused(text):
    with pytest.raises(ConfigError, match="--slo: expected"):
        Goal.parse(text)


def test_a_goal_holds_or_says_why_not():
    goal = Goal.parse("p99_final_ms=250")
    assert str(goal) == "p99_final_ms=250"
    assert goal.violation(step()) == ""
    assert goal.violation(step((10.0, 300.0))) == "p99 final 297 ms"
    assert goal.violation(step(lost=3)) == "3 frames lost, 0 streams unfinished"
    assert goal.violation(step(opened=9)) == "1 streams were refused"
    assert goal.violation(step(late_ms=55)).startswith("the load generator was late (p99 55 ms)")
    assert goal.violation(step(())) == "no result to measure final on"


def test_a_search_says_what_ended_it():
    assert (
        search_end_text(CapacityResult("p99_final_ms=250", 675, 693, "p99 final 272 ms"))
        == "693 streams do not: p99 final 272 ms"
    )
    assert search_end_text(CapacityResult("p99_final_ms=250", 40, None, "--max-streams 40 was reached")) == (
        "higher numbers were not tried: --max-streams 40 was reached"
    )


def test_the_same_trouble_of_a_number_tried_twice_is_said_once():
    report = LoadReport(
        version="1", started_at="", server="", command="", machine=MachineInfo(2, "cpu", "system", "3"),
        workload=WorkloadInfo("pcm_s16le", 16_000, 20, 640, 0.5, 0.5, 0, 0, 0, 0, 1, False, (), 600),
        steps=[step(lost=3), step(lost=3), step(lost=4)],
    )  # fmt: skip
    assert "frames were lost, or answered twice: 3 and 0 at 10 streams, 4 and 0 at 10 streams" in diagnose(report)


def test_figures_survive_json():
    assert msgspec.json.decode(msgspec.json.encode(step()), type=LoadStep).final.p50_ms == 10
