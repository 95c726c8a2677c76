"""Settings that change in mid-stream, reasons of the ends of speech, and the clock of the audio."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.session.events import (
    EndReason,
    ErrorEvent,
    Finished,
    Flushed,
    Mode,
    Progress,
    Segment,
    SpeechEnded,
    SpeechStarted,
)
from streamer.session.messages import Audio, Configure, Flush, Stop, VadOverrides
from streamer.session.settings import SessionSettings
from tests.session.harness import SessionHarness, bursts, start

SEGMENTED = SessionSettings(Mode.SEGMENTED)
LOUD = bursts(0.0, 1.0).tobytes()
PHRASE = bursts(0.2, 1.0, 1.0).tobytes()


def spoken(outside: SessionHarness, *messages: object) -> SessionHarness:
    for message in messages:
        outside.say(message)  # type: ignore[arg-type]
        outside.settle()
    return outside


def test_a_final_says_why_its_speech_ended() -> None:
    outside = SessionHarness(SEGMENTED)
    short = VadOverrides(max_speech_time_ms=600)
    spoken(outside, start(vad=short), Audio(PHRASE), Audio(LOUD[:16_000]), Flush(), Audio(LOUD[:16_000]))
    outside.pass_time(3.0)
    outside.settle()
    spoken(outside, Audio(LOUD[:16_000]), Stop())
    reasons = [final.end_reason for final in outside.finals]
    assert reasons[0] is EndReason.MAX_LENGTH
    assert [reason for reason in reasons if reason is not EndReason.MAX_LENGTH] == [
        EndReason.SILENCE,
        EndReason.FLUSH,
        EndReason.STALL,
        EndReason.STOP,
    ]


@pytest.mark.parametrize("rate", [16_000, 24_000])
def test_a_longer_padding_begins_where_the_audio_is_still_kept(rate: int) -> None:
    outside = SessionHarness(SEGMENTED)
    quiet, loud = bursts(1.5, rate=rate).tobytes(), bursts(0.0, 1.0, 1.0, rate=rate).tobytes()
    form = AudioFormat(Encoding.PCM_S16LE, rate, 1)
    first = start(form, vad=VadOverrides(pre_speech_pad_ms=100))
    spoken(outside, first, Audio(quiet), Configure(VadOverrides(pre_speech_pad_ms=1_000)), Audio(loud))
    [begun] = outside.of(SpeechStarted)
    [final] = outside.finals
    assert final.start == begun.position
    assert final.start == pytest.approx(1.4 * 16_000, abs=2_048)
    spoken(outside, Audio(quiet), Audio(loud))
    assert outside.finals[-1].start == pytest.approx((1.5 + 2.0 + 1.5 - 1.0) * 16_000, abs=1_024)


def test_a_piece_and_an_interim_have_no_reason() -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(interim_results=True, interim_interval_ms=200), Audio(LOUD))
    assert outside.interims
    assert {interim.end_reason for interim in outside.interims} == {None}
    outside = spoken(SessionHarness(SessionSettings(Mode.SIMPLE)), start(), Audio(LOUD), Stop())
    assert {piece.end_reason for piece in outside.finals} == {None}


def test_changed_settings_apply_without_a_new_clock() -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(), Audio(PHRASE))
    patient = Configure(vad=VadOverrides(redemption_time_ms=2_000))
    spoken(outside, patient, Audio(PHRASE), Audio(PHRASE), Stop())
    first, second = outside.finals
    assert first.end <= second.start < len(PHRASE) // 2 + 16_000
    assert second.end > 16_000 * 5, "the pause of a second does not end the speech any more"
    finished = outside.events[-1]
    assert isinstance(finished, Finished)
    assert finished.received == 3 * len(PHRASE) // 2
    assert sum(isinstance(event, Finished) for event in outside.events) == 1


def test_changed_settings_apply_within_open_speech() -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(vad=VadOverrides(redemption_time_ms=5_000)), Audio(PHRASE))
    assert not outside.of(SpeechEnded)
    spoken(outside, Configure(vad=VadOverrides(redemption_time_ms=100)), Audio(bytes(3_200)))
    assert len(outside.of(SpeechEnded)) == 1


def test_interims_begin_and_end_with_a_change() -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(), Audio(LOUD))
    assert not outside.interims
    spoken(outside, Configure(interim_results=True, interim_interval_ms=200), Audio(LOUD))
    count = len(outside.interims)
    assert count
    spoken(outside, Configure(), Audio(LOUD))
    assert len(outside.interims) == count


def test_the_model_gets_the_changed_options() -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(options=b'{"language":"en"}'), Audio(PHRASE))
    outside.say(Configure(options=b'{"language":"de"}'), Audio(PHRASE), Stop())
    while outside.scores:
        outside.score_one()
    [job] = outside.jobs.values()
    assert job.options == b'{"language":"de"}'


@pytest.mark.parametrize("changes", [{"redemption_time_ms": -1.0}, {"max_speech_time_ms": 1e9}])
def test_an_invalid_change_is_an_error_and_changes_nothing(changes: dict[str, float]) -> None:
    outside = spoken(SessionHarness(SEGMENTED), start(), Audio(PHRASE))
    spoken(outside, Configure(vad=VadOverrides(**changes)))
    [error] = outside.of(ErrorEvent)
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.fatal) == (ErrorCode.BAD_REQUEST, False)
    spoken(outside, Audio(PHRASE), Stop())
    assert len(outside.finals) == 2


def test_a_change_waits_for_the_flush_before_it() -> None:
    outside = SessionHarness(SEGMENTED)
    outside.say(start(), Audio(LOUD), Flush("x"), Configure(interim_results=True, interim_interval_ms=200))
    outside.say(Audio(LOUD))
    outside.settle()
    kinds = [type(event) for event in outside.heard if isinstance(event, Flushed | Segment)]
    assert kinds[:2] == [Segment, Flushed]
    assert outside.interims


def test_progress_is_sent_as_audio_is_processed_and_after_what_was_found_in_it() -> None:
    outside = spoken(
        SessionHarness(SEGMENTED),
        start(progress_ms=100),
        *(Audio(PHRASE[at : at + 640]) for at in range(0, len(PHRASE), 640)),
    )
    positions = [event.position for event in outside.events if isinstance(event, Progress)]
    assert positions == sorted(set(positions))
    assert 16_000 * 2 < positions[-1] <= len(PHRASE) // 2
    assert all(after - before >= 1_600 for before, after in pairwise(positions))
    began = next(at for at, event in enumerate(outside.events) if isinstance(event, SpeechStarted))
    before = [event.position for event in outside.events[:began] if isinstance(event, Progress)]
    assert max(before, default=0) <= 16_000 * 0.5


def test_without_a_request_no_progress_is_sent() -> None:
    assert not spoken(SessionHarness(SEGMENTED), start(), Audio(PHRASE), Stop()).of(Progress)
