"""v2: strict for what a client says, complete for what it is told."""

from __future__ import annotations

import json

import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.protocols.v2 import V2Codec
from streamer.session import events
from streamer.session.events import Mode
from streamer.session.messages import Audio, Flush, KeepAlive, Malformed, Start, Stop, VadOverrides
from tests.raw import raw

V = V2Codec(Mode.SEGMENTED, 16_000)


def start(format_: object = None, **fields: object) -> str:
    format_ = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1} if format_ is None else format_
    return json.dumps({"type": "start", "format": format_, **fields})


def refused(frame: str, code: ErrorCode = ErrorCode.BAD_REQUEST, *, fatal: bool = False) -> str:
    message = V.decode(frame)
    assert isinstance(message, Malformed), message
    assert (message.code, message.fatal) == (code, fatal)
    return message.message


def test_a_full_start_is_read() -> None:
    frame = start(
        interim_results=True,
        interim_interval_ms=500,
        chunk_ms=400,
        vad={"positive_speech_threshold": 0.5, "redemption_time_ms": 600},
        traceparent="00-a",
        tracestate="b",
        metadata={"call": "42"},
        options={"beam": 5, "words": ["a"]},
    )
    message = V.decode(frame)
    assert message == Start(
        AudioFormat(Encoding.PCM_S16LE, 16_000, 1),
        interim_results=True,
        interim_interval_ms=500,
        chunk_ms=400,
        vad=VadOverrides(positive_speech_threshold=0.5, redemption_time_ms=600),
        traceparent="00-a",
        tracestate="b",
        metadata={"call": "42"},
        options=b'{"beam": 5, "words": ["a"]}',
    )


def test_what_is_left_out_has_its_default() -> None:
    assert V.decode(start()) == Start(AudioFormat(Encoding.PCM_S16LE, 16_000, 1))


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_encoding_is_known(encoding: Encoding) -> None:
    message = V.decode(start({"encoding": encoding, "sample_rate": 8_000, "channels": 8}))
    assert message == Start(AudioFormat(encoding, 8_000, 8))


def test_the_other_messages_are_read() -> None:
    assert V.decode('{"type":"flush","id":"a"}') == Flush("a")
    assert V.decode('{"type":"flush"}') == Flush(None)
    assert V.decode('{"type":"stop","keep_open":true}') == Stop(keep_open=True)
    assert V.decode('{"type":"stop"}') == Stop(keep_open=False)
    assert V.decode('{"type":"keepalive"}') == KeepAlive()
    assert V.decode(b"\0") == Audio(b"\0")


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (start(interims=True), "object contains unknown field `interims`"),
        (start(vad={"redemption_ms": 600}), "vad: object contains unknown field `redemption_ms`"),
        ('{"type":"stop","disconnect":true}', "object contains unknown field `disconnect`"),
        (start(interim_interval_ms=0.5), "interim_interval_ms: expected `int | null`, got `float`"),
        (start(vad={"redemption_time_ms": "600"}), "vad.redemption_time_ms: expected `float | null`, got `str`"),
        (start(vad={"redemption_time_ms": True}), "vad.redemption_time_ms: expected `float | null`, got `bool`"),
        (start(metadata={"a": 1}), "metadata[...]: expected `str`, got `int`"),
        (start(options=[1]), "options: expected `object`, got `array`"),
        (start(options=None), "options: expected `object`, got `null`"),
        ('{"type":"start"}', "object missing required field `format`"),
        ('{"type":"begin"}', "type: invalid value 'begin', expected one of start, flush, clear, stop, keepalive, auth"),
        ("{}", "object missing required field `type`"),
    ],
)
def test_a_message_that_is_not_of_the_protocol_is_named_and_ends_nothing(frame: str, text: str) -> None:
    assert refused(frame) == text


@pytest.mark.parametrize("field", ["channels", "sample_rate"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, 10**9, 10**30, "16000", None])
def test_a_format_that_cannot_be_served_is_fatal_and_names_its_field(field: str, value: object) -> None:
    format_ = {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1} | {field: value}
    text = refused(start(format_), ErrorCode.INVALID_FORMAT, fatal=True)
    assert text.startswith(f"format.{field}: expected ")
    assert "got " in text


def test_an_unknown_encoding_is_told_the_known_ones() -> None:
    text = refused(
        start({"encoding": "speex", "sample_rate": 16_000, "channels": 1}), ErrorCode.INVALID_FORMAT, fatal=True
    )
    assert text.startswith("format.encoding: expected one of pcm_u8, pcm_s16le,")
    assert text.endswith("g722, got 'speex'")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            events.Started("s1", Mode.SEGMENTED, "stub", 16_000, {"idle_timeout_s": 30.0}, "00-a"),
            {
                "type": "started",
                "session_id": "s1",
                "mode": "segmented",
                "model": {"name": "stub", "sample_rate": 16_000},
                "limits": {"idle_timeout_s": 30.0},
                "traceparent": "00-a",
            },
        ),
        (events.SpeechStarted(0, 5_600), {"type": "speech_started", "channel": 0, "time": 0.35}),
        (events.SpeechEnded(1, 33_600), {"type": "speech_ended", "channel": 1, "time": 2.1}),
        (
            events.Segment(0, 1, 5_600, 33_600, True, raw({"text": "é"})),
            {
                "type": "segment",
                "channel": 0,
                "segment_id": 1,
                "start_time": 0.35,
                "end_time": 2.1,
                "is_final": True,
                "output": {"text": "é"},
            },
        ),
        (events.Segment(0, 1, 0, 0, False, raw(None)), {"is_final": False, "output": None}),
        (events.Ack(48_000, 33_600), {"type": "ack", "received": 48_000, "committed": 33_600}),
        (events.Flushed("a"), {"type": "flushed", "id": "a"}),
        (
            events.WarningEvent(events.WarningCode.LAGGING, "slow"),
            {"type": "warning", "code": "lagging", "message": "slow"},
        ),
        (
            events.ErrorEvent(ErrorCode.MODEL_ERROR, "no", channel=0, start=5_600, end=33_600),
            {
                "type": "error",
                "code": "model_error",
                "message": "no",
                "fatal": False,
                "retryable": True,
                "channel": 0,
                "start_time": 0.35,
                "end_time": 2.1,
            },
        ),
        (events.Draining(25.0), {"type": "draining", "deadline_ms": 25_000}),
        (
            events.Finished(events.FinishReason.STOPPED, 480_000, 480_000, 3, 0),
            {
                "type": "finished",
                "reason": "stopped",
                "received": 480_000,
                "processed": 480_000,
                "segments": 3,
                "failed": 0,
            },
        ),
    ],
)
def test_events_have_the_words_of_the_page(event: events.Event, words: dict[str, object]) -> None:
    assert words.items() <= json.loads(V.encode(event)).items()


def test_what_is_not_known_is_left_out() -> None:
    assert V.encode(events.ErrorEvent(ErrorCode.BAD_REQUEST, "no")) == (
        '{"type":"error","code":"bad_request","message":"no","fatal":false,"retryable":false}'
    )
    assert V.encode(events.Flushed(None)) == '{"type":"flushed"}'


def test_times_are_short_and_exact_at_odd_rates() -> None:
    codec = V2Codec(Mode.SEGMENTED, 44_100)
    for position in (1, 44_099, 635_040_001):
        time = json.loads(codec.encode(events.SpeechStarted(0, position)))["time"]
        assert round(time * 44_100) == position
        assert len(repr(time).partition(".")[2]) <= 6
