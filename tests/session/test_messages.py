"""What each message does in each state, and what is said of one that cannot be served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.actions import Close
from streamer.session.events import ErrorEvent, Finished, Mode, Started
from streamer.session.messages import (
    Audio,
    Auth,
    Clear,
    Configure,
    Flush,
    HalfClose,
    KeepAlive,
    Malformed,
    SetFormat,
    Start,
    Stop,
    VadOverrides,
)
from streamer.session.settings import SessionSettings
from streamer.session.state import TABLE, SessionState, SessionStep
from tests.session.harness import SessionHarness, bursts, start

SIMPLE = SessionSettings(Mode.SIMPLE)
SEGMENTED = SessionSettings(Mode.SEGMENTED)
QUIET, LOUD = bursts(1.0).tobytes(), bursts(0.0, 1.0).tobytes()


def test_the_table_says_what_every_message_does_in_every_state() -> None:
    assert set(TABLE) == set(SessionState)
    for row in TABLE.values():
        assert set(row) == {Start, Audio, Configure, SetFormat, Flush, Clear, Stop, HalfClose, KeepAlive, Auth}
    assert {step for row in TABLE.values() for step in row.values()} == set(SessionStep)


@pytest.mark.parametrize("message", [Audio(b"\0\0"), Configure(), Flush("x"), Stop(), Stop(keep_open=True)])
def test_before_a_start_a_message_is_refused_and_the_connection_stays(message: object) -> None:
    outside = SessionHarness()
    outside.say(message)  # type: ignore[arg-type]
    [error] = outside.events
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.fatal) == (ErrorCode.BAD_STATE, False)
    outside.say(start())
    assert isinstance(outside.events[-1], Started)


def test_audio_before_a_start_is_refused_once_not_per_message() -> None:
    outside = SessionHarness()
    outside.say(*[Audio(b"\0\0")] * 50)
    assert len(outside.events) == 1


def test_a_start_may_name_its_mode() -> None:
    outside = SessionHarness(SEGMENTED)
    outside.say(replace(start(), mode=Mode.SIMPLE), Audio(QUIET), Stop(keep_open=True), start(), Audio(QUIET), Stop())
    outside.settle()
    assert [started.mode for started in outside.of(Started)] == [Mode.SIMPLE, Mode.SEGMENTED]
    assert outside.finals
    assert all(segment.end <= 16_000 for segment in outside.finals)


def test_a_malformed_message_is_told_and_changes_nothing() -> None:
    outside = SessionHarness()
    outside.say(start(), Malformed(ErrorCode.BAD_REQUEST, "no JSON"), Audio(LOUD), Stop())
    outside.settle()
    assert [e.message for e in outside.of(ErrorEvent)] == ["no JSON"]
    assert len(outside.finals) == 1


def test_a_fatal_malformed_message_names_what_is_unanswered_and_closes() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(), Audio(QUIET), Malformed(ErrorCode.MESSAGE_TOO_BIG, "70 000 bytes", fatal=True))
    error = outside.events[-1]
    assert isinstance(error, ErrorEvent)
    assert (error.fatal, error.start, error.end) == (True, 0, 16_000)
    assert outside.closes == [Close(ErrorCode.MESSAGE_TOO_BIG)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Start(AudioFormat(Encoding.PCM_S16LE, 16_000, 9)), "format.channels: expected an integer from 1 to 8, got 9"),
        (Start(AudioFormat(Encoding.PCM_S16LE, 1, 1)), "format.sample_rate: expected an integer from 4000 to 192000"),
        (start(chunk_ms=1), "chunk_ms: expected an integer from 20 to 10000, got 1"),
        (start(vad=VadOverrides(redemption_time_ms=-1)), "vad.redemption_time_ms: expected a number from 0"),
        (start(vad=VadOverrides(positive_speech_threshold=0.1)), "vad.negative_speech_threshold: expected at most"),
        (start(metadata={str(i): "" for i in range(17)}), "metadata: expected at most 16 entries, got 17"),
        (start(metadata={"k": "ä" * 129}), "metadata: expected keys and values of at most 256 bytes"),
        (start(options=b"x" * 9_000), "options: expected at most 8192 bytes"),
    ],
)
def test_a_start_that_cannot_be_served_is_named_and_closes(bad: Start, words: str) -> None:
    outside = SessionHarness()
    outside.say(bad)
    [error] = outside.events
    assert isinstance(error, ErrorEvent)
    assert error.fatal
    assert words in error.message
    assert outside.closes[0].code == error.code


def test_what_is_said_while_a_stream_finishes_waits_and_nothing_is_lost() -> None:
    outside = SessionHarness(SIMPLE)
    outside.say(start(), Audio(LOUD), Stop(keep_open=True))
    outside.say(*[Audio(LOUD[i : i + 1]) for i in range(2_000)], Stop())
    outside.settle()
    assert [e.received for e in outside.of(Finished)] == [16_000, 1_000]
