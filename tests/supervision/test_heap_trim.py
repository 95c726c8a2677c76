"""Memory goes back once a crowd has gone, and only then."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterable

import psutil
import pytest

from streamer.supervision.heap_trim import CALM_READINGS, MIN_PEAK_SESSIONS, PeakDetector, trim_after_peaks, trim_heap

MIB = 2**20


def answers(readings: Iterable[int]) -> list[bool]:
    ebb = PeakDetector()
    return [ebb.is_peak_over(sessions) for sessions in readings]


def test_a_crowd_has_gone_when_half_of_it_at_most_is_left_for_a_while() -> None:
    assert answers([MIN_PEAK_SESSIONS] + [MIN_PEAK_SESSIONS // 2] * CALM_READINGS) == [False] * CALM_READINGS + [True]
    assert not any(answers([MIN_PEAK_SESSIONS] + [MIN_PEAK_SESSIONS // 2 + 1] * 2 * CALM_READINGS))


def test_a_few_are_no_crowd() -> None:
    assert not any(answers([MIN_PEAK_SESSIONS - 1] + [0] * 2 * CALM_READINGS))


def test_a_crowd_that_comes_again_has_not_gone() -> None:
    assert not any(answers(([MIN_PEAK_SESSIONS] + [0] * (CALM_READINGS - 1)) * 3))


def test_a_crowd_may_leave_one_by_one() -> None:
    assert sum(answers([*range(MIN_PEAK_SESSIONS, 0, -1), *[0] * CALM_READINGS])) == 1


def test_it_is_said_once_until_another_crowd_has_come_and_gone() -> None:
    crowd = [MIN_PEAK_SESSIONS] + [0] * 5 * CALM_READINGS
    assert sum(answers(crowd)) == 1
    assert sum(answers(2 * crowd)) == 2


async def test_memory_is_given_back_after_each_crowd() -> None:
    readings = iter(2 * ([MIN_PEAK_SESSIONS] + [0] * CALM_READINGS))
    trims: list[None] = []
    read = asyncio.Event()

    def sessions() -> int:
        now = next(readings, None)
        if now is None:
            read.set()
        return now or 0

    giving = asyncio.create_task(trim_after_peaks(sessions, lambda: trims.append(None), period_s=0))
    await read.wait()
    giving.cancel()
    assert len(trims) == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries see to it themselves")
def test_what_lies_between_things_in_use_goes_back_as_well() -> None:
    process = psutil.Process()
    taken = [bytes(2_000) for _ in range(40_000)]
    kept = taken[::50]  # a few everywhere: the heap cannot shrink from its end
    del taken
    before = process.memory_full_info().uss
    trim_heap()
    assert before - process.memory_full_info().uss > 20 * MIB
    assert len(kept) == 800
