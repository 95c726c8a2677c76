"""The gRPC dialect says what v2 says, and reads only what a client of the proto can have meant."""

from __future__ import annotations

import math

import pytest
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import ErrorCode
from streamer.protocols.grpc_codec import MAX_OUTPUT_DEPTH, GrpcCodec, HalfCloseFrame
from streamer.protocols.grpc_convert import ENCODINGS, ERRORS, MODES, REASONS, WARNINGS, read_struct, read_value
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session import events
from streamer.session.events import FinishReason, Json, Mode, WarningCode
from streamer.session.messages import Audio, Flush, HalfClose, KeepAlive, Malformed, Message, Start, Stop, VadOverrides
from tests.raw import raw

G = GrpcCodec(16_000)
PLAIN = pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def said(**word: object) -> Message:
    return G.decode(pb.ClientMessage(**word).SerializeToString())  # type: ignore[arg-type]


def start(**fields: object) -> Message:
    return said(start=pb.Start(**{"format": PLAIN, **fields}))  # type: ignore[arg-type]


def refused(message: Message, code: ErrorCode = ErrorCode.BAD_REQUEST, *, fatal: bool = False) -> str:
    assert isinstance(message, Malformed), message
    assert (message.code, message.fatal) == (code, fatal)
    return message.message


def told(event: events.Event) -> dict[str, object]:
    message = pb.ServerMessage.FromString(G.encode(event))
    words = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert len(words) == 1
    return words


def test_a_full_start_is_read() -> None:
    options = pb.Start().options
    options.update({"beam": 5, "words": ["a"], "deep": {"x": None, "y": 0.5, "z": True}})
    message = start(
        mode="MODE_SIMPLE",
        interim_results=True,
        interim_interval_ms=500,
        chunk_ms=400,
        vad=pb.VadOverrides(positive_speech_threshold=0.35, redemption_time_ms=600),
        traceparent="00-a",
        tracestate="b",
        metadata={"call": "42"},
        options=options,
    )
    assert isinstance(message, Start)
    assert message == Start(
        AudioFormat(Encoding.PCM_S16LE, 16_000, 1),
        interim_results=True,
        interim_interval_ms=500,
        chunk_ms=400,
        vad=VadOverrides(positive_speech_threshold=0.35, redemption_time_ms=600),
        traceparent="00-a",
        tracestate="b",
        metadata={"call": "42"},
        options=message.options,
        mode=Mode.SIMPLE,
    )
    assert b'"beam":5' in message.options
    assert b'"deep":{' in message.options


def test_what_is_left_out_has_its_default() -> None:
    assert start() == Start(AudioFormat(Encoding.PCM_S16LE, 16_000, 1))


def test_zero_is_not_left_out() -> None:
    message = start(chunk_ms=0, interim_interval_ms=0, vad=pb.VadOverrides(redemption_time_ms=0))
    assert isinstance(message, Start)
    assert (message.chunk_ms, message.interim_interval_ms, message.vad.redemption_time_ms) == (0, 0, 0.0)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_every_encoding_is_known(encoding: Encoding) -> None:
    format_ = pb.AudioFormat(encoding=ENCODINGS.name(encoding), sample_rate=8_000, channels=8)  # type: ignore[arg-type]
    assert start(format=format_) == Start(AudioFormat(encoding, 8_000, 8))


def test_the_other_messages_are_read() -> None:
    assert said(flush=pb.Flush(id="a")) == Flush("a")
    assert said(flush=pb.Flush(id="")) == Flush("")
    assert said(flush=pb.Flush()) == Flush(None)
    assert said(stop=pb.Stop(keep_open=True)) == Stop(keep_open=True)
    assert said(stop=pb.Stop()) == Stop(keep_open=False)
    assert said(keepalive=pb.KeepAlive()) == KeepAlive()
    assert G.decode(HalfCloseFrame.HALF_CLOSE) == HalfClose()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 640, 16_383, 16_384, 65_536])
def test_audio_is_audio_at_every_length_of_its_length(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    assert said(audio=data[:size]) == Audio(data[:size])


@settings(max_examples=60)
@given(st.binary(max_size=40), st.binary(max_size=12))
def test_audio_beside_what_this_version_does_not_know_is_read_as_protobuf_reads_it(data: bytes, tail: bytes) -> None:
    """The quick way and the library agree on every frame, sound or broken."""
    frame = pb.ClientMessage(audio=data).SerializeToString() + tail
    message = G.decode(frame)
    try:
        parsed = pb.ClientMessage.FromString(frame)
    except DecodeError:
        assert isinstance(message, Malformed)
    else:
        if parsed.WhichOneof("message") == "audio":
            assert message == Audio(parsed.audio)


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_codec_raise(frame: bytes) -> None:
    G.decode(frame)


def test_limits_hold_at_their_bounds() -> None:
    codec = GrpcCodec(16_000, max_control_bytes=100, max_audio_message_bytes=50)
    assert codec.decode(pb.ClientMessage(audio=bytes(50)).SerializeToString()) == Audio(bytes(50))
    text = refused(
        codec.decode(pb.ClientMessage(audio=bytes(51)).SerializeToString()), ErrorCode.MESSAGE_TOO_BIG, fatal=True
    )
    assert text == "expected an audio message of at most 50 bytes, got 51"
    exact = pb.ClientMessage(flush=pb.Flush(id="a" * 96)).SerializeToString()
    assert len(exact) == 100
    assert codec.decode(exact) == Flush("a" * 96)
    more = pb.ClientMessage(flush=pb.Flush(id="a" * 97)).SerializeToString()
    refused(codec.decode(more), ErrorCode.MESSAGE_TOO_BIG, fatal=True)


def test_a_message_that_says_nothing_is_named_and_ends_nothing() -> None:
    assert refused(G.decode(b"")).startswith("message: expected one of start, audio, flush, stop, keepalive")
    assert refused(G.decode(b"\xff")).startswith("not a streamer.v2.ClientMessage")
    assert refused(said(flush=pb.Flush(id="a" * 257))) == "id: expected at most 256 characters, got 257"
    assert refused(start(mode=7)) == "mode: expected one of simple, segmented, got 7"


def test_options_too_deep_to_read_are_refused() -> None:
    message = pb.ClientMessage(start=pb.Start(format=PLAIN))
    value = message.start.options.fields["a"]
    for _ in range(60):
        value = value.struct_value.fields["a"]
    value.number_value = 1
    refused(G.decode(message.SerializeToString()))


@pytest.mark.parametrize(
    ("format_", "field"),
    [
        (None, "encoding"),
        (pb.AudioFormat(sample_rate=16_000, channels=1), "encoding"),
        (pb.AudioFormat(encoding=99, sample_rate=16_000, channels=1), "encoding"),  # type: ignore[arg-type]
        (pb.AudioFormat(encoding="ENCODING_MULAW", channels=1), "sample_rate"),
        (pb.AudioFormat(encoding="ENCODING_MULAW", sample_rate=2**32 - 1, channels=1), "sample_rate"),
        (pb.AudioFormat(encoding="ENCODING_MULAW", sample_rate=8_000), "channels"),
        (pb.AudioFormat(encoding="ENCODING_MULAW", sample_rate=8_000, channels=9), "channels"),
    ],
)
def test_a_format_that_cannot_be_served_is_fatal_and_names_its_field(
    format_: pb.AudioFormat | None, field: str
) -> None:
    text = refused(start(format=format_), ErrorCode.INVALID_FORMAT, fatal=True)
    assert text.startswith(f"format.{field}: expected ")


def test_the_enums_of_the_proto_are_those_of_the_core() -> None:
    for words, core, proto in (
        (ENCODINGS, Encoding, pb.Encoding),
        (MODES, Mode, pb.Mode),
        (ERRORS, ErrorCode, pb.ErrorCode),
        (WARNINGS, WarningCode, pb.WarningCode),
        (REASONS, FinishReason, pb.FinishReason),
    ):
        assert {words.value(number) for number in proto.values()} == {*core, None}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            events.Started("s1", Mode.SEGMENTED, "stub", 16_000, {"idle_timeout_s": 30.0}, "00-a"),
            {
                "started": {
                    "session_id": "s1",
                    "mode": "MODE_SEGMENTED",
                    "model": {"name": "stub", "sample_rate": 16_000},
                    "limits": {"idle_timeout_s": 30.0},
                    "traceparent": "00-a",
                }
            },
        ),
        (events.SpeechStarted(0, 5_600), {"speech_started": {"channel": 0, "time": 0.35}}),
        (events.SpeechEnded(1, 33_600), {"speech_ended": {"channel": 1, "time": 2.1}}),
        (
            events.Segment(0, 1, 5_600, 33_600, True, raw({"text": "é"})),
            {
                "segment": {
                    "channel": 0,
                    "segment_id": "1",
                    "start_time": 0.35,
                    "end_time": 2.1,
                    "is_final": True,
                    "output": {"text": "é"},
                }
            },
        ),
        (
            events.Segment(0, 1, 0, 0, False, raw([1])),
            {
                "segment": {
                    "channel": 0,
                    "segment_id": "1",
                    "start_time": 0.0,
                    "end_time": 0.0,
                    "is_final": False,
                    "value": [1.0],
                }
            },
        ),
        (events.Ack(48_000, 33_600), {"ack": {"received": "48000", "committed": "33600"}}),
        (events.Flushed("a"), {"flushed": {"id": "a"}}),
        (events.Flushed(None), {"flushed": {}}),
        (
            events.WarningEvent(WarningCode.LAGGING, "slow"),
            {"warning": {"code": "WARNING_CODE_LAGGING", "message": "slow"}},
        ),
        (
            events.ErrorEvent(ErrorCode.MODEL_ERROR, "no", channel=0, start=5_600, end=33_600),
            {
                "error": {
                    "code": "ERROR_CODE_MODEL_ERROR",
                    "message": "no",
                    "fatal": False,
                    "retryable": True,
                    "channel": 0,
                    "start_time": 0.35,
                    "end_time": 2.1,
                }
            },
        ),
        (
            events.ErrorEvent(ErrorCode.OVERLOADED, "no", fatal=True, retry_after_s=1.5),
            {
                "error": {
                    "code": "ERROR_CODE_OVERLOADED",
                    "message": "no",
                    "fatal": True,
                    "retryable": True,
                    "retry_after_ms": "1500",
                }
            },
        ),
        (events.Draining(25.0), {"draining": {"deadline_ms": "25000"}}),
        (
            events.Finished(FinishReason.STOPPED, 480_000, 480_000, 3, 0),
            {
                "finished": {
                    "reason": "FINISH_REASON_STOPPED",
                    "received": "480000",
                    "processed": "480000",
                    "segments": "3",
                    "failed": "0",
                }
            },
        ),
    ],
)
def test_events_have_the_words_of_the_proto(event: events.Event, words: dict[str, object]) -> None:
    assert told(event) == words


def carried(output: Json) -> Json:
    message = pb.ServerMessage.FromString(G.encode(events.Segment(0, 1, 0, 1, True, raw(output)))).segment
    return read_struct(message.output) if message.WhichOneof("result") == "output" else read_value(message.value)


@settings(max_examples=60)
@given(JSON)
def test_every_output_arrives_as_it_left(output: Json) -> None:
    back = carried(output)
    assert back == (None if isinstance(output, float) and math.isinf(output) else finite(output))


def finite(output: Json) -> Json:
    match output:
        case float():
            return output if math.isfinite(output) else None
        case list():
            return [finite(item) for item in output]
        case dict():
            return {key: finite(item) for key, item in output.items()}
        case _:
            return output


def test_an_output_too_deep_for_the_carrier_becomes_an_error_that_names_its_range() -> None:
    output: Json = 1
    for _ in range(MAX_OUTPUT_DEPTH - 1):
        output = {"a": output}
    assert carried(output) == output
    error = told(events.Segment(0, 1, 0, 16_000, True, raw({"a": {"a": output}})))["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["start_time"], error["end_time"]) == ("ERROR_CODE_MODEL_ERROR", 0.0, 1.0)
