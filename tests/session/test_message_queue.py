"""Messages that come while a flush or the end of a stream is awaited: how many may, and how they are answered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Close
from streamer.session.events import (
    ErrorEvent,
    Event,
    Finished,
    Flushed,
    Mode,
    Segment,
    SpeechEnded,
    SpeechStarted,
    Started,
    WarningEvent,
)
from streamer.session.messages import Audio, Flush, HalfClose, KeepAlive, Message, Start, Stop
from streamer.session.settings import Limits, SessionSettings
from tests.session.harness import S16, SessionHarness, bursts, start

MOST = Limits().max_pending_messages
LOUD = bursts(0.1, 0.2).tobytes()

MIXTURES: dict[str, Sequence[Message]] = {
    "flush": [Flush("f")],
    "start": [start()],
    "flush, audio": [Flush("f"), Audio(b"\0\0")],
    "start, audio": [start(), Audio(b"\0\0")],
    "stop, audio": [Stop(keep_open=True), Audio(b"\0\0")],
    "stop, start": [Stop(keep_open=True), start()],
    "stop, flush": [Stop(keep_open=True), Flush("f")],
    "flush, start, stop, audio": [Flush("f"), start(), Stop(keep_open=True), Audio(b"\0\0")],
}


def of_many(kind: str, count: int) -> list[Message]:
    """The mixture over and over, `count` messages."""
    mixture = MIXTURES[kind]
    return [mixture[index % len(mixture)] for index in range(count)]


def waiting(mode: Mode = Mode.SEGMENTED) -> SessionHarness:
    """A session that waits for the answers to what came before a flush."""
    outside = SessionHarness(SessionSettings(mode, max_inflight=1))
    outside.say(start(chunk_ms=20), Audio(LOUD), Flush("first"))
    assert outside.scores or outside.jobs
    return outside


# How many may be pending --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("kind", list(MIXTURES))
def test_as_many_messages_may_be_pending_as_are_set_and_all_are_taken(kind: str, mode: Mode) -> None:
    messages = of_many(kind, MOST)
    outside = waiting(mode)
    outside.say(*messages)
    outside.settle()
    assert not [event for event in outside.of(ErrorEvent) if event.fatal]
    assert not outside.closes
    outside.say(HalfClose())
    outside.settle()
    assert outside.closes == [Close(None)]
    said = SessionHarness(SessionSettings(mode, max_inflight=1))
    for message in (start(chunk_ms=20), Audio(LOUD), Flush("first"), *messages, HalfClose()):
        said.say(message)
        said.settle()
    assert answers(outside) == answers(said)


@pytest.mark.parametrize("kind", list(MIXTURES))
def test_one_pending_message_more_than_are_set_ends_the_session(kind: str) -> None:
    outside = waiting()
    outside.say(*of_many(kind, MOST))
    assert not outside.closes
    outside.say(start())
    assert outside.closes == [Close(ErrorCode.RATE_LIMITED)]
    assert [event.code for event in outside.of(ErrorEvent)] == [ErrorCode.RATE_LIMITED]


def test_flushes_that_wait_for_results_count_as_pending() -> None:
    outside = SessionHarness(SessionSettings(Mode.SIMPLE, max_inflight=1))
    outside.say(start(chunk_ms=20), Audio(b"\0\0" * 320))
    assert len(outside.jobs) == 1
    outside.say(*[Flush(str(number)) for number in range(MOST)])
    assert not outside.closes
    outside.settle()
    assert len(outside.of(Flushed)) == MOST
    outside.say(Audio(b"\0\0" * 320), *[Flush("f")] * (MOST + 1))
    assert outside.closes == [Close(ErrorCode.RATE_LIMITED)]


# What is answered ---------------------------------------------------------------------------------


def answers(outside: SessionHarness) -> tuple[list[Event], list[Event], list[str]]:
    """The events in the two orders that are promised: results among all that fences them, and speech likewise.

    Speech is told as it is heard, results as the model answers, warnings when there is a reason: which of these comes
    first is a matter of time.
    """
    results: list[Event] = []
    facts: list[Event] = []
    warnings: list[str] = []
    for event in outside.heard:
        if isinstance(event, WarningEvent):
            warnings.append(event.message)
            continue
        if not isinstance(event, SpeechStarted | SpeechEnded):
            results.append(event)
        if not isinstance(event, Segment | Flushed):
            facts.append(event)
    return results, facts, sorted(warnings)


def starts() -> st.SearchStrategy[Start]:
    return st.builds(
        lambda form, mode, chunk_ms: replace(Start(form), mode=mode, chunk_ms=chunk_ms),
        st.sampled_from([S16, AudioFormat(Encoding.PCM_F32LE, 44_100, 1), AudioFormat(Encoding.MULAW, 8_000, 1)]),
        st.sampled_from([None, Mode.SIMPLE, Mode.SEGMENTED]),
        st.sampled_from([20, 100, 333]),  # without a fixed length, pieces are as long as the model is slow
    )


@dataclass(frozen=True)
class AudioMachine:
    """Up to a second of audio, cut anywhere: half a sample may be left for the next message."""

    turns: list[float]
    seed: int
    tail: int

    def audio(self) -> Audio:
        return Audio(bursts(*self.turns, seed=self.seed).tobytes() + b"\x7f" * self.tail)


SOUNDS = st.builds(
    AudioMachine,
    st.lists(st.sampled_from([0.0, 0.1, 0.4]), min_size=1, max_size=3),
    st.integers(0, 3),
    st.integers(0, 3),
)
MESSAGES = st.one_of(
    SOUNDS,
    SOUNDS,
    starts(),
    st.builds(Flush, st.sampled_from([None, "a", "b"])),
    st.builds(Stop, keep_open=st.just(True)),
    st.just(KeepAlive()),
)


@settings(max_examples=200, deadline=None)
@given(starts(), st.lists(MESSAGES, max_size=40), st.sampled_from([Stop(), HalfClose()]), st.integers(0, 2**32 - 1))
def test_whatever_is_pending_the_answers_are_those_to_messages_dealt_with_one_by_one(
    first: Start, messages: Sequence[Message | AudioMachine], last: Message, seed: int
) -> None:
    script = [first, *(each.audio() if isinstance(each, AudioMachine) else each for each in messages), last]
    one_by_one = SessionHarness()
    for message in script:
        one_by_one.say(message)
        one_by_one.settle()
    rng = random.Random(seed)
    patience = rng.choice([0.0, 0.3, 0.7])
    pending = SessionHarness()
    for message in script:
        if not pending.closes:
            pending.say(message)
        while pending.scores and rng.random() < patience:
            pending.score_one(rng.randrange(len(pending.scores)))
        while pending.jobs and rng.random() < patience:
            pending.infer_one(rng.choice(list(pending.jobs)))
    pending.settle(rng)
    assert answers(pending) == answers(one_by_one)
    assert pending.closes == one_by_one.closes == [Close(None)]
    assert len(pending.of(Started)) == len(pending.of(Finished)) == len(pending.released)
