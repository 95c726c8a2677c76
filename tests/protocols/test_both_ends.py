"""What one end writes, the other reads as the same thing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.audio.format import MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioFormat, Encoding
from streamer.client import events as told
from streamer.client.dialects import V1ClientCodec, V2ClientCodec
from streamer.client.errors import ProtocolError
from streamer.client.grpc_dialect import GrpcClientCodec
from streamer.errors import ErrorCode
from streamer.protocols.grpc_codec import GrpcCodec
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session import events
from streamer.session.events import Event, Mode
from streamer.session.messages import Audio, AudioOutFormat, Clear, Flush, KeepAlive, Start, Stop, VadOverrides
from tests.raw import raw, read

modest = settings(max_examples=60, deadline=None)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RATES = st.integers(MIN_SAMPLE_RATE, MAX_SAMPLE_RATE)
CHANNELS = st.integers(0, MAX_CHANNELS - 1)
POSITIONS = st.integers(0, 4 * 3600 * MAX_SAMPLE_RATE)


def formats(encodings: st.SearchStrategy[Encoding]) -> st.SearchStrategy[AudioFormat]:
    return st.builds(AudioFormat, encodings, RATES, st.integers(1, MAX_CHANNELS))


V1_STARTS = st.builds(
    Start,
    formats(st.sampled_from([Encoding.PCM_S16LE, Encoding.PCM_F32LE])),
    interim_results=st.booleans(),
    traceparent=st.none() | TEXT,
)
MS = st.none() | st.integers(1, 3_600_000)
V2_STARTS = st.builds(
    Start,
    formats(st.sampled_from(Encoding)),
    interim_results=st.booleans(),
    interim_interval_ms=MS,
    chunk_ms=MS,
    audio_out=st.none() | st.builds(AudioOutFormat, st.sampled_from(Encoding), RATES, st.booleans()),
    vad=st.builds(VadOverrides, st.none() | st.floats(0, 1), redemption_time_ms=st.none() | st.floats(0, 1e5)),
    traceparent=st.none() | TEXT,
    tracestate=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    options=st.dictionaries(TEXT, JSON, max_size=3).map(lambda value: json.dumps(value).encode()),
)
GRPC_STARTS = st.builds(
    lambda start, mode, options: replace(start, mode=mode, options=options),
    V2_STARTS,
    st.none() | st.sampled_from(Mode),
    st.dictionaries(TEXT, JSON, max_size=3).map(lambda value: json.dumps(value).encode()),
)
AUDIO = st.builds(Audio, st.binary(max_size=50))
STOPS = st.builds(Stop, st.booleans())


@modest
@given(request=V1_STARTS | AUDIO | STOPS)
def test_v1_requests_arrive_as_they_were_said(request: Start | Audio | Stop) -> None:
    assert V1Codec(Mode.SIMPLE, 16_000).decode(V1ClientCodec().encode(request)) == request


@modest
@given(request=V2_STARTS | AUDIO | STOPS | st.builds(Flush, st.none() | TEXT) | st.just(KeepAlive()) | st.just(Clear()))
def test_v2_requests_arrive_as_they_were_said(request: Start | Audio | Stop | Flush | Clear | KeepAlive) -> None:
    assert V2Codec(Mode.SIMPLE, 16_000).decode(V2ClientCodec().encode(request)) == request


@modest
@given(
    request=GRPC_STARTS | AUDIO | STOPS | st.builds(Flush, st.none() | TEXT) | st.just(KeepAlive()) | st.just(Clear())
)
def test_grpc_requests_arrive_as_they_were_said(request: Start | Audio | Stop | Flush | Clear | KeepAlive) -> None:
    got = GrpcCodec(16_000).decode(GrpcClientCodec().encode(request))
    if isinstance(request, Start):
        assert isinstance(got, Start)
        assert json.loads(got.options) == json.loads(request.options)
        got = replace(got, options=request.options)
    assert got == request


RANGES = st.tuples(POSITIONS, POSITIONS).map(sorted)
CODES = st.sampled_from(ErrorCode)
SPEECH = st.builds(events.SpeechStarted, CHANNELS, POSITIONS) | st.builds(events.SpeechEnded, CHANNELS, POSITIONS)
FAILED = st.builds(
    lambda code, text, fatal, channel, span, after_s: events.ErrorEvent(
        code,
        text,
        fatal=fatal,
        channel=channel,
        start=None if channel is None else span[0],
        end=None if channel is None else span[1],
        retry_after_s=after_s,
    ),
    CODES,
    TEXT,
    st.booleans(),
    st.none() | CHANNELS,
    RANGES,
    st.none() | st.integers(0, 100).map(float),
)
SEGMENTS = st.builds(
    lambda channel, segment_id, span, is_final, output: events.Segment(
        channel, segment_id, *span, is_final, raw(output)
    ),
    CHANNELS,
    st.integers(1, 1000),
    RANGES,
    st.booleans(),
    JSON,
)
COUNT = st.integers(0, 2**50)
REST = (
    st.builds(events.Ack, COUNT, COUNT)
    | st.builds(events.Flushed, st.none() | TEXT)
    | st.builds(events.WarningEvent, st.sampled_from(events.WarningCode), TEXT)
    | st.builds(events.Draining, st.integers(0, 100).map(float))
    | st.builds(events.Finished, st.sampled_from(events.FinishReason), COUNT, COUNT, COUNT, COUNT)
    | st.builds(
        events.Started,
        TEXT,
        st.sampled_from(Mode),
        TEXT,
        RATES,
        st.just({"idle_s": 30.0}),
        st.none() | TEXT,
        st.none()
        | st.builds(events.AudioOutInfo, st.sampled_from(Encoding), RATES, st.integers(1, 64), st.floats(0, 1e3)),
    )
    | st.builds(events.AudioEnded, CHANNELS, COUNT, COUNT)
    | st.builds(events.Cleared, COUNT)
)
AUDIO_STARTED = st.builds(events.AudioStarted, CHANNELS, COUNT, POSITIONS)


def expected(event: Event, rate: int) -> dict[str, Any]:
    """The fields of the client's event that come from the session's by another name."""

    def seconds(position: int | None) -> float | None:
        return None if position is None else round(position / rate, 6)

    match event:
        case events.SpeechStarted() | events.SpeechEnded():
            return {"time": seconds(event.position), "channel": event.channel}
        case events.Segment():
            return {"start_time": seconds(event.start), "end_time": seconds(event.end)}
        case events.ErrorEvent():
            return {
                "start_time": seconds(event.start),
                "end_time": seconds(event.end),
                "retryable": event.retryable,
                "retry_after_ms": None if event.retry_after_s is None else event.retry_after_s * 1000,
            }
        case events.Draining():
            return {"deadline_ms": event.deadline_s * 1000}
        case events.Started():
            out = event.audio_out
            return {
                "model": told.ModelInfo(event.model, event.model_sample_rate),
                "limits": event.limits,
                "audio_out": out and told.AudioOutInfo(out.encoding, out.sample_rate, out.channels, out.latency_ms),
            }
        case events.AudioStarted():
            return {"start_time": seconds(event.position)}
        case _:
            return {}


@modest
@given(event=SPEECH | SEGMENTS | FAILED | REST | AUDIO_STARTED, rate=RATES)
def test_v2_events_arrive_as_they_happened(event: Event, rate: int) -> None:
    got = V2ClientCodec().decode(V2Codec(Mode.SEGMENTED, rate).encode(event))
    assert type(got).__name__ == {"ErrorEvent": "Error"}.get(type(event).__name__, type(event).__name__)
    for name, value in expected(event, rate).items():
        assert getattr(got, name) == value
    for name in set(event.__slots__) & set(got.__struct_fields__) - expected(event, rate).keys():
        value = getattr(event, name)
        assert getattr(got, name) == (read(value) if name == "output" else value)


@modest
@given(event=SPEECH | SEGMENTS | FAILED | REST | AUDIO_STARTED, rate=RATES)
def test_grpc_says_the_same_as_v2(event: Event, rate: int) -> None:
    over_grpc = GrpcClientCodec().decode(GrpcCodec(rate).encode(event))
    assert over_grpc == V2ClientCodec().decode(V2Codec(Mode.SEGMENTED, rate).encode(event))


@given(data=st.binary(max_size=99), segment=st.integers(0, 99), channel=CHANNELS)
def test_audio_arrives_as_it_was_and_with_its_answer(data: bytes, segment: int, channel: int) -> None:
    chunk = events.AudioChunk(channel, segment, 0, len(data), data)
    v2, client = V2Codec(Mode.SEGMENTED, 16_000), V2ClientCodec()
    client.decode(v2.encode(events.AudioResumed(channel, segment)))
    over_grpc = GrpcClientCodec().decode(GrpcCodec(16_000).encode(chunk) or b"")
    assert client.decode(v2.encode(chunk)) == over_grpc == told.AudioChunk(channel, segment, data)
    assert V1Codec(Mode.SEGMENTED, 16_000).encode(chunk) is None


def test_a_grpc_client_passes_over_what_a_newer_server_says() -> None:
    assert GrpcClientCodec().decode(b"") is None
    newer = GrpcClientCodec().decode(pb.ServerMessage(error=pb.Error(code=99)).SerializeToString())  # type: ignore[arg-type]
    assert newer == told.Error("unknown", "", False, False)
    with pytest.raises(ProtocolError):
        GrpcClientCodec().decode(b"\xff")


@modest
@given(event=SPEECH | FAILED, rate=RATES)
def test_v1_says_the_same_as_v2_of_speech_and_faults(event: Event, rate: int) -> None:
    first = V1ClientCodec().decode(V1Codec(Mode.SEGMENTED, rate).encode(event) or "")
    second = V2ClientCodec().decode(V2Codec(Mode.SEGMENTED, rate).encode(event))
    if isinstance(second, told.Error) and second.channel is None:
        second = msgspec.structs.replace(second, channel=0)
    assert first == second


RESERVED = {"type", "start_time", "end_time", "is_final", "channel"}


@modest
@given(event=SEGMENTS, rate=RATES, mode=st.sampled_from(Mode))
def test_v1_says_the_same_as_v2_of_results(event: events.Segment, rate: int, mode: Mode) -> None:
    first = V1ClientCodec().decode(V1Codec(mode, rate).encode(event) or "")
    assert isinstance(first, told.Segment)
    assert first.is_final is (event.is_final or mode is Mode.SIMPLE)
    assert (first.start_time, first.end_time) == tuple(expected(event, rate).values())
    output = read(event.output)
    if isinstance(output, dict):
        output = {key: value for key, value in output.items() if key not in RESERVED}
        if output.keys() == {"output"} and not isinstance(output["output"], dict):
            output = output["output"]
    assert first.output == output


def test_v1_interims_share_their_number_with_their_final() -> None:
    server, client = V1Codec(Mode.SEGMENTED, 16_000), V1ClientCodec()
    said = [(0, False), (1, False), (0, False), (0, True), (0, False), (1, True), (0, True)]
    heard = [client.decode(server.encode(events.Segment(c, 9, 0, 1, final, raw({}))) or "") for c, final in said]
    assert [(e.channel, e.segment_id) for e in heard if isinstance(e, told.Segment)] == [
        (0, 1),
        (1, 1),
        (0, 1),
        (0, 1),
        (0, 2),
        (1, 1),
        (0, 2),
    ]
