"""What ends a stream, and what follows it: a stop, a leave, a drain, a hangup, a fatal error."""

from __future__ import annotations

import pytest

from streamer.errors import ErrorCode
from streamer.session.actions import Cancel, Close, Output
from streamer.session.events import Draining, ErrorEvent, Finished, FinishReason, Flushed, Mode, Segment
from streamer.session.messages import Audio, Flush, HalfClose, Malformed, Stop
from streamer.session.settings import SessionSettings
from streamer.session.state import SessionState
from tests.session.harness import SessionHarness, bursts, start

SIMPLE = SessionSettings(Mode.SIMPLE)
LOUD = bursts(0.0, 1.0).tobytes()


def test_a_stop_after_a_stop_closes_normally() -> None:
    outside = SessionHarness()
    outside.say(start(), Stop(keep_open=True), Stop())
    assert [close.code for close in outside.closes] == [None]
    assert not outside.of(ErrorEvent)


@pytest.mark.parametrize("before", [(), (start(), Stop(keep_open=True))])
def test_leaving_while_nothing_runs_closes_normally(before: tuple[object, ...]) -> None:
    outside = SessionHarness()
    outside.say(*before, HalfClose())  # type: ignore[arg-type]
    assert [close.code for close in outside.closes] == [None]
    assert not outside.of(ErrorEvent)


@pytest.mark.parametrize("before", [(), (Flush("a"),), (Stop(keep_open=True),), (Stop(),)])
def test_leaving_is_a_stop_that_nothing_follows(before: tuple[object, ...]) -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD), *before, HalfClose())  # type: ignore[arg-type]
    outside.settle()
    assert [finished.reason for finished in outside.of(Finished)] == [FinishReason.STOPPED]
    assert len(outside.finals) == 1
    assert [close.code for close in outside.closes] == [None]


def test_a_drain_tells_then_finishes_as_if_stopped() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD))
    outside.take(outside.session.drain(25.0, outside.now))
    outside.take(outside.session.finish(outside.now))
    outside.settle()
    assert outside.of(Draining) == [Draining(25.0)]
    assert outside.events[-1] == Finished(FinishReason.DRAINED, 16_000, 16_000, 1, 0)
    assert outside.closes == [Close(ErrorCode.DRAINING)]


def test_a_drain_in_a_flush_still_answers_the_flush() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD), Flush("x"))
    outside.take(outside.session.finish(outside.now))
    outside.settle()
    assert [type(e) for e in outside.heard[-3:]] == [Segment, Flushed, Finished]


def test_a_hangup_cancels_what_is_outstanding() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(), Audio(LOUD))
    actions = outside.session.on_disconnect(outside.now)
    assert Cancel(1) in actions
    assert outside.session.state is SessionState.CLOSED
    assert not outside.session.on_outcome(1, Output.of(1), outside.now)


def test_a_late_answer_after_a_fatal_error_says_nothing() -> None:
    outside = SessionHarness()
    outside.say(start(), Audio(LOUD))
    scores = list(outside.scores)
    outside.say(Malformed(ErrorCode.BAD_REQUEST, "x", fatal=True))
    told = outside.session.on_scores(scores[0].channel, [0.0] * 31, outside.now)
    assert not told
