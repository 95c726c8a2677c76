"""A few seconds of `make soak`: it runs, it finds nothing, and its judge sees what is wrong."""

from __future__ import annotations

import pytest

from streamer.client import Error, Finished, Segment
from tests.soak.__main__ import soak
from tests.soak.ledger import Broken, check


async def test_some_seconds_of_soak_break_nothing() -> None:
    assert await soak(0.05, clients=12, seed=7, log=None) == []


def piece(start: float, end: float) -> Segment:
    return Segment(0, 1, start, end, True, None)


def failure(start: float, end: float) -> Error:
    return Error("model_error", "", False, True, 0, start, end)


def closing(received: int, processed: int) -> Finished:
    return Finished(reason="stopped", received=received, processed=processed, segments=1, failed=0)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([piece(0, 0.5), closing(16_000, 16_000)], "without exactly one answer"),
        ([piece(0, 0.5), piece(0.4, 1), closing(16_000, 16_000)], "without exactly one answer"),
        ([piece(0, 1), closing(16_000, 15_999)], "frames sent"),
        ([piece(0, 1)], "0 closing events"),
        ([piece(0, 0.5), failure(0.5, 1), closing(16_000, 16_000)], "frames sent"),
    ],
)
def test_the_judge_sees_what_is_missing(events: list[Segment], says: str) -> None:
    with pytest.raises(Broken, match=says):
        check(events, sent=16_000, rate=16_000, mode="simple", dialect="v2")


def test_the_judge_takes_an_error_in_place_of_a_final() -> None:
    check(
        [piece(0, 0.5), failure(0.5, 1), closing(16_000, 8_000)], sent=16_000, rate=16_000, mode="simple", dialect="v2"
    )
