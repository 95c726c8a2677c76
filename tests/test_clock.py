"""The clock that leaves pauses out: its calls come when what came meanwhile could be read, and they do come."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streamer.clock import (
    CHECK_INTERVAL_S,
    LATE_S,
    LOGGED_PAUSE_S,
    MAX_CHECK_INTERVAL_S,
    READ_S,
    LoopClock,
    PauseAwareClock,
    timeout,
)
from streamer.testing import ManualClock

PAUSE_S = 60.0


class Calls:
    """A pause-aware clock over one that the test moves, and the calls that came."""

    def __init__(self) -> None:
        self.time = ManualClock()
        self.began = self.time.now()
        self.clock = PauseAwareClock(self.time)
        self.clock.start()
        self.came: dict[str, float] = {}

    def after(self, seconds: float, name: str = "it") -> None:
        self.clock.call_at(self.clock.now() + seconds, lambda: self.came.setdefault(name, self.passed))

    @property
    def passed(self) -> float:
        return self.time.now() - self.began


def test_calls_come_at_their_time_while_nothing_pauses() -> None:
    calls = Calls()
    for seconds in (0.0, CHECK_INTERVAL_S, 7.3, 62.0):
        calls.after(seconds, str(seconds))
    calls.time.advance(100)
    assert calls.came == {"0.0": 0, str(CHECK_INTERVAL_S): CHECK_INTERVAL_S, "7.3": pytest.approx(7.3), "62.0": 62}
    assert calls.clock.paused_s == 0


def test_a_call_that_fell_due_in_a_pause_comes_when_the_rest_of_its_time_has_passed() -> None:
    calls = Calls()
    calls.after(10)
    calls.time.advance(4)
    calls.time.jump(PAUSE_S)
    calls.time.advance(6 - CHECK_INTERVAL_S - 0.01)
    assert not calls.came
    calls.time.advance(CHECK_INTERVAL_S)
    assert calls.came
    assert PAUSE_S - CHECK_INTERVAL_S <= calls.clock.paused_s <= PAUSE_S


def test_a_call_that_falls_due_right_after_a_pause_comes_after_what_came_is_read() -> None:
    calls = Calls()
    calls.after(4.0)
    calls.time.advance(4.0 - 0.001)
    calls.time.jump(PAUSE_S)
    calls.time.advance(READ_S - 0.001)
    assert not calls.came
    calls.time.advance(CHECK_INTERVAL_S)
    assert calls.came


def test_a_call_that_is_set_right_after_a_pause_comes_after_what_came_is_read() -> None:
    calls = Calls()
    calls.time.jump(PAUSE_S)
    calls.after(0.0)
    calls.time.advance(0.0)
    assert not calls.came
    calls.time.advance(READ_S)
    assert calls.came


def test_a_pause_that_was_not_noticed_yet_keeps_calls_back_too() -> None:
    """What was set before the last look comes before the next one."""
    calls = Calls()
    calls.after(CHECK_INTERVAL_S / 2)
    calls.time.jump(PAUSE_S)
    assert not calls.came
    calls.time.advance(READ_S)
    assert calls.came


def test_a_busy_loop_is_no_pause_and_its_late_calls_come_after_what_came_is_read() -> None:
    calls = Calls()
    calls.after(0.1)
    calls.time.jump(0.1 + 2 * LATE_S)
    assert calls.clock.paused_s == 0
    assert not calls.came
    calls.time.advance(READ_S)
    assert calls.came


def test_calls_come_even_if_each_turn_of_the_loop_takes_as_long_as_a_pause() -> None:
    calls = Calls()
    calls.after(2.0)
    turns = 0
    while not calls.came:
        calls.time.jump(2 * MAX_CHECK_INTERVAL_S)
        turns += 1
    assert turns <= 2.0 / CHECK_INTERVAL_S + 2


def test_a_call_that_is_cancelled_while_it_is_put_off_never_comes() -> None:
    calls = Calls()
    timer = calls.clock.call_at(calls.clock.now() + 1, lambda: calls.came.setdefault("it", 0))
    calls.time.jump(PAUSE_S)
    timer.cancel()
    calls.time.advance(2 * PAUSE_S)
    assert not calls.came


def test_each_pause_is_told_once() -> None:
    calls, told = Calls(), []
    calls.clock.on_pause = lambda: told.append(calls.passed)
    calls.time.advance(10)
    assert not told
    calls.time.jump(PAUSE_S)
    calls.time.advance(10)
    assert len(told) == 1
    calls.time.jump(PAUSE_S)
    calls.time.advance(10)
    assert len(told) == 2


def test_a_long_pause_is_logged_and_a_busy_loop_is_not(caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    calls.time.jump(LOGGED_PAUSE_S)
    assert not caplog.records
    calls.time.jump(PAUSE_S)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "was paused for 59.5 s" in record.getMessage()


def test_nothing_is_left_after_the_stop() -> None:
    calls = Calls()
    calls.clock.stop()
    assert calls.time.timers == 0
    calls.time.jump(PAUSE_S)
    assert not calls.clock.is_catching_up


async def test_a_block_is_bounded_by_the_clock() -> None:
    time = ManualClock()
    asyncio.get_running_loop().call_soon(time.advance, 5)
    with pytest.raises(TimeoutError):
        await never(time, 5)
    assert time.timers == 0


async def never(clock: ManualClock, seconds: float) -> None:
    async with timeout(clock, seconds):
        await asyncio.Event().wait()


async def test_a_block_that_ends_in_time_leaves_no_timer() -> None:
    time = ManualClock()
    async with timeout(time, 5):
        time.advance(4.9)
    assert time.timers == 0
    time.advance(5)


async def test_the_clock_of_a_server_calls_on_the_event_loop() -> None:
    clock, come = PauseAwareClock(), asyncio.Event()
    clock.start()
    assert clock.now is LoopClock.now
    clock.call_at(clock.now() + 0.01, come.set)
    async with asyncio.timeout(20):
        await come.wait()
    clock.stop()
