"""The tools that users test with do what they say."""

from __future__ import annotations

import numpy as np

from streamer.testing import ManualClock, noise, s16le, silence, speech, tone
from streamer.vad import speech_segments


def test_timers_fire_in_order_each_at_its_own_time() -> None:
    clock = ManualClock(0.0)
    fired: list[tuple[str, float]] = []
    clock.call_at(2.0, lambda: fired.append(("late", clock.now())))
    clock.call_at(1.0, lambda: fired.append(("early", clock.now())))
    cancelled = clock.call_at(1.5, lambda: fired.append(("never", clock.now())))
    cancelled.cancel()
    assert clock.timers == 2
    clock.advance(1.0)
    assert fired == [("early", 1.0)]
    clock.advance(5.0)
    assert fired == [("early", 1.0), ("late", 2.0)]
    assert (clock.now(), clock.timers) == (6.0, 0)


def test_a_timer_may_set_the_next() -> None:
    clock = ManualClock(0.0)
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(clock.now())
        clock.call_at(clock.now() + 1.0, tick)

    clock.call_at(1.0, tick)
    clock.advance(3.5)
    assert ticks == [1.0, 2.0, 3.0]


def test_signals_have_the_length_and_level_they_are_asked_for() -> None:
    assert len(silence(0.5)) == 8_000
    assert not silence(0.5).any()
    assert np.abs(tone(440, 1.0, amplitude=0.25)).max() <= 0.25
    assert len(noise(1.0, 8_000)) == 8_000
    np.testing.assert_array_equal(noise(0.1, seed=3), noise(0.1, seed=3))
    assert all(signal.dtype == np.float32 for signal in (silence(0.1), tone(440, 0.1), noise(0.1), speech()))


def test_speech_is_speech_to_the_scorer() -> None:
    assert len(speech_segments(speech(), 16_000)) == 2


def test_the_loudest_sample_does_not_wrap_around() -> None:
    assert s16le(np.array([1.0, -1.0, 0.0], np.float32)) == np.array([32_767, -32_768, 0], "<i2").tobytes()
