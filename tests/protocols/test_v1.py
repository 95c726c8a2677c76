"""v1 keeps the original's words byte for byte."""

from __future__ import annotations

import json

import pytest

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.protocols.v1 import V1Codec
from streamer.session import events
from streamer.session.events import Json, Mode
from streamer.session.messages import Audio, Malformed, Start, Stop
from tests.raw import raw

SEGMENTED = V1Codec(Mode.SEGMENTED, 16_000)
SIMPLE = V1Codec(Mode.SIMPLE, 16_000)
S16 = AudioFormat(Encoding.PCM_S16LE, 16_000, 1)


def start(**format_: object) -> str:
    fields = {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False} | format_
    return json.dumps({"request": "start", "format": fields})


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        (events.SpeechStarted(0, 5_600), '{"type":"active","time":0.35,"channel":0}'),
        (events.SpeechEnded(0, 33_600), '{"type":"inactive","time":2.1,"channel":0}'),
        (
            events.Segment(0, 1, 5_600, 33_600, True, raw({"count": 28_000})),
            '{"type":"segment","start_time":0.35,"end_time":2.1,"is_final":true,"count":28000,"channel":0}',
        ),
        (
            events.ErrorEvent(ErrorCode.MODEL_ERROR, "Unexpected inference failure", channel=1),
            '{"type":"error","message":"Unexpected inference failure","channel":1,"code":"model_error","fatal":false,'
            '"retryable":true}',
        ),
        (
            events.ErrorEvent(ErrorCode.BAD_STATE, "audio before start", start=0, end=16_000),
            '{"type":"error","message":"audio before start","channel":0,"code":"bad_state","fatal":false,'
            '"retryable":false,"start_time":0.0,"end_time":1.0}',
        ),
        (
            events.ErrorEvent(ErrorCode.OVERLOADED, "full", fatal=True, retry_after_s=1.5),
            '{"type":"error","message":"full","channel":0,"code":"overloaded","fatal":true,"retryable":true,'
            '"retry_after_ms":1500}',
        ),
    ],
)
def test_events_are_the_originals_byte_for_byte(event: events.Event, frame: str) -> None:
    assert SEGMENTED.encode(event) == frame


def test_simple_has_no_is_final() -> None:
    frame = SIMPLE.encode(events.Segment(0, 1, 0, 16_000, True, raw({"count": 16_000})))
    assert frame == '{"type":"segment","start_time":0.0,"end_time":1.0,"count":16000,"channel":0}'


@pytest.mark.parametrize(
    ("output", "inside"),
    [
        ({"text": "a", "channel": 7, "type": "x", "start_time": -1, "is_final": 5}, '"text":"a",'),
        ({}, ""),
        ("hello", '"output":"hello",'),
        ([1, None], '"output":[1,null],'),
        (None, '"output":null,'),
    ],
)
def test_output_is_flattened_and_the_protocols_keys_win(output: Json, inside: str) -> None:
    frame = SEGMENTED.encode(events.Segment(2, 1, 0, 8_000, False, raw(output)))
    head = '{"type":"segment","start_time":0.0,"end_time":0.5,"is_final":false,'
    assert frame == head + inside + '"channel":2}'


@pytest.mark.parametrize(
    "event",
    [
        events.Started("s", Mode.SIMPLE, "stub", 16_000, {}, None),
        events.Ack(1, 1),
        events.Flushed("a"),
        events.WarningEvent(events.WarningCode.LAGGING, "slow"),
        events.Draining(25.0),
        events.Finished(events.FinishReason.STOPPED, 1, 1, 1, 0),
    ],
)
def test_what_the_original_could_not_say_is_not_said(event: events.Event) -> None:
    assert SEGMENTED.encode(event) is None


def test_the_originals_start_and_stop_are_read() -> None:
    frame = (
        '{"request":"start","trace_id":"00-4bf9-01","format":{"channels":1,"sample_rate":16000,"bit_depth":16,'
        '"is_float":false},"interim_results":true}'
    )
    assert SEGMENTED.decode(frame) == Start(S16, interim_results=True, traceparent="00-4bf9-01")
    assert SEGMENTED.decode('{"request":"stop","disconnect":true}') == Stop(keep_open=False)
    assert SEGMENTED.decode('{"request":"stop","disconnect":false}') == Stop(keep_open=True)
    assert SEGMENTED.decode(b"\0\1\2") == Audio(b"\0\1\2")


def test_trace_id_may_be_null_and_interims_absent() -> None:
    frame = json.loads(start()) | {"trace_id": None}
    assert SEGMENTED.decode(json.dumps(frame)) == Start(S16)


def test_unknown_fields_are_skipped_as_the_original_did() -> None:
    frame = json.loads(start(codec="pcm")) | {"language": {"is": ["en"]}}
    assert SEGMENTED.decode(json.dumps(frame)) == Start(S16)


def test_float_is_32_bits() -> None:
    message = SEGMENTED.decode(start(bit_depth=32, is_float=True, channels=2))
    assert message == Start(AudioFormat(Encoding.PCM_F32LE, 16_000, 2))


@pytest.mark.parametrize(("depth", "is_float"), [(16, True), (32, False), (24, False), (0, False), (-16, False)])
def test_other_depths_name_the_field_and_what_was_expected(depth: int, is_float: bool) -> None:
    message = SEGMENTED.decode(start(bit_depth=depth, is_float=is_float))
    expected = "format.bit_depth: expected 16 with is_float false, or 32 with is_float true, got "
    expected += f"{depth} with is_float {json.dumps(is_float)}"
    assert message == Malformed(ErrorCode.INVALID_FORMAT, expected, fatal=True)


@pytest.mark.parametrize("field", ["channels", "sample_rate"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, 10**9, 10**30, "16000", None, [1]])
def test_a_format_that_cannot_be_served_is_fatal_and_names_its_field(field: str, value: object) -> None:
    message = SEGMENTED.decode(start(**{field: value}))
    assert isinstance(message, Malformed)
    assert (message.code, message.fatal) == (ErrorCode.INVALID_FORMAT, True)
    assert message.message.startswith(f"format.{field}: expected ")
    assert "got " in message.message
