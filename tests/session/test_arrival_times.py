"""When audio came: exact at marks, by distance between them, and no more memory than the audio is worth."""

from __future__ import annotations

import pytest

from streamer.session.arrival_times import ArrivalTimes
from streamer.session.messages import Audio
from tests.session.harness import SessionHarness, start


def marked(*marks: tuple[int, float]) -> ArrivalTimes:
    arrivals = ArrivalTimes()
    for frames, when in marks:
        arrivals.mark(frames, when)
    return arrivals


@pytest.mark.parametrize(
    ("frames", "when"),
    [(0, 5.0), (10, 5.0), (100, 5.0), (150, 6.0), (200, 7.0), (201, 7.0)],
)
def test_an_arrival_lies_between_its_marks(frames: int, when: float) -> None:
    assert marked((100, 5.0), (200, 7.0)).at(frames) == when


def test_nothing_arrived_before_the_first_audio() -> None:
    assert ArrivalTimes().at(0) is None


def test_what_is_forgotten_came_with_the_last_of_it() -> None:
    arrivals = marked((100, 1.0), (200, 2.0), (300, 3.0))
    arrivals.forget(200)
    assert (len(arrivals), arrivals.at(50), arrivals.at(250)) == (1, 2.0, 2.5)


def test_the_latest_mark_is_never_forgotten() -> None:
    arrivals = marked((100, 1.0), (200, 2.0))
    arrivals.forget(10_000)
    assert (len(arrivals), arrivals.at(10_000)) == (1, 2.0)


def test_a_session_knows_within_a_tenth_of_a_second_when_audio_came() -> None:
    outside = SessionHarness()
    outside.say(start())
    for _ in range(100):  # 20 ms of audio each 20 ms, then a pause, then more
        outside.now += 0.02
        outside.say(Audio(b"\0\0" * 320))
    outside.now += 5.0
    outside.say(Audio(b"\0\0" * 320))
    arrival = outside.session.arrival
    assert arrival(16_000) == pytest.approx(101.0, abs=0.1)
    assert arrival(24_000) == pytest.approx(101.5, abs=0.1)
    outside.score_one()
    outside.session.on_disconnect(outside.now)
    assert arrival(16_000) is None


def test_marks_are_forgotten_with_the_audio() -> None:
    outside = SessionHarness()
    outside.say(start())
    for _ in range(600):
        outside.now += 0.1
        outside.say(Audio(b"\0\0" * 1_600))
        outside.settle()
    stream = outside.session._stream
    assert stream is not None
    assert len(stream._marks.times) < 20
