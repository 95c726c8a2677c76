"""Whatever comes over the wire is read or refused; it never raises and never floods."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ErrorCode
from streamer.protocols.v1 import V1Codec
from streamer.protocols.v2 import V2Codec
from streamer.session.events import Mode
from streamer.session.messages import Audio, Malformed, Message, Start

FORMATS = (
    '"format":{"encoding":"pcm_s16le","sample_rate":16000,"channels":1}',
    '"format":{"channels":1,"sample_rate":16000,"bit_depth":16,"is_float":false}',
)
ROOMY = 10_000_000
CODECS = [
    V1Codec(Mode.SEGMENTED, 16_000, max_control_bytes=ROOMY),
    V2Codec(Mode.SEGMENTED, 16_000, max_control_bytes=ROOMY),
]

each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


def tag(codec: V1Codec | V2Codec) -> str:
    return "request" if codec.name == "v1" else "type"


def valid_format(codec: V1Codec | V2Codec) -> str:
    return FORMATS[codec.name == "v1"]


@each_codec
@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "nonsense",
        "null",
        "1",
        '"start"',
        "[]",
        '{"type":1,"request":1}',
        '{"type":"stop","request":"stop"} x',
        '{"type":"stop","request":"stop",}',
        "\ufeff{}",
        "UklGRiQAAABXQVZFZm10IBAAAAABAAEA",
        '{"type":"st\x00op"}',
        '{"type":"\\ud800","request":"\\ud800"}',
        '{"type":"\ud800"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"request":' * 100_000,
        '{"type":"start","options":' + "[" * 100_000,
        "9" * 5_000,
        "1e400",
        "NaN",
    ],
    ids=range(22),
)
def test_what_is_not_of_the_protocol_is_refused_and_ends_nothing(codec: V1Codec | V2Codec, frame: str) -> None:
    message = codec.decode(frame)
    assert isinstance(message, Malformed)
    assert (message.code, message.fatal) == (ErrorCode.BAD_REQUEST, False)
    assert 0 < len(message.message) <= 250


@each_codec
def test_text_where_binary_belongs_says_so(codec: V1Codec | V2Codec) -> None:
    for text in ("UklGRiQAAABXQVZFZm10IBAAAAABAAEA", '"UklGRiQAAABXQVZFZm10IBAAAAABAAEA"'):
        message = codec.decode(text)
        assert isinstance(message, Malformed)
        assert message.message.endswith("; audio belongs in binary frames")


@each_codec
@pytest.mark.parametrize("value", ["1e400", "-1e400", "9" * 5_000, '"\\ud800"', '"\\udc00\\ud800"'])
def test_values_that_nothing_can_hold_are_refused(codec: V1Codec | V2Codec, value: str) -> None:
    frame = f'{{"{tag(codec)}":"start",{valid_format(codec).replace("16000", value)}}}'
    message = codec.decode(frame)
    assert isinstance(message, Malformed)
    assert len(message.message) <= 250


@pytest.mark.parametrize(
    "value", ["1e400", "9" * 5_000, '"\\ud800"', "[" * 100_000 + "]" * 100_000, "[" * 65 + "]" * 65, "NaN", "[1,]"]
)
def test_options_that_a_model_could_not_read_are_refused(value: str) -> None:
    frame = f'{{"type":"start",{FORMATS[0]},"options":{{"a":{value}}}}}'
    message = CODECS[1].decode(frame)
    assert isinstance(message, Malformed)
    assert (message.code, message.fatal) == (ErrorCode.BAD_REQUEST, False)


def test_options_may_nest_within_reason() -> None:
    frame = f'{{"type":"start",{FORMATS[0]},"options":{{"a":{"[" * 62 + "]" * 62}}}}}'
    assert isinstance(CODECS[1].decode(frame), Start)


@each_codec
def test_of_a_key_that_comes_twice_the_last_counts(codec: V1Codec | V2Codec) -> None:
    frame = f'{{"{tag(codec)}":"start",{valid_format(codec)},"interim_results":true,"interim_results":false}}'
    message = codec.decode(frame)
    assert isinstance(message, Start)
    assert message.interim_results is False


@each_codec
def test_a_long_name_does_not_flood_the_answer(codec: V1Codec | V2Codec) -> None:
    message = codec.decode(f'{{"{tag(codec)}":"{"x" * 10_000}"}}')
    assert isinstance(message, Malformed)
    assert len(message.message) <= 200


@pytest.mark.parametrize("codec_type", [V1Codec, V2Codec])
def test_sizes_are_bounded_to_the_byte(codec_type: type[V1Codec] | type[V2Codec]) -> None:
    codec = codec_type(Mode.SIMPLE, 16_000, max_control_bytes=100, max_audio_message_bytes=8)
    assert codec.decode(bytes(8)) == Audio(bytes(8))
    assert codec.decode(bytes(9)) == Malformed(
        ErrorCode.MESSAGE_TOO_BIG, "expected an audio message of at most 8 bytes, got 9", fatal=True
    )
    too_big = Malformed(
        ErrorCode.MESSAGE_TOO_BIG, "expected a control message of at most 100 bytes, got 101", fatal=True
    )
    assert codec.decode("{" + " " * 99) != too_big
    assert codec.decode("{" + " " * 100) == too_big
    assert codec.decode("é" * 50 + "x") == too_big


@each_codec
@settings(max_examples=100, deadline=None)
@given(frame=st.one_of(st.text(max_size=200), st.binary(max_size=50)))
def test_no_frame_raises(codec: V1Codec | V2Codec, frame: str | bytes) -> None:
    assert isinstance(codec.decode(frame), Message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["type", "request", "format", "interim_results", "chunk_ms", "vad", "metadata", "options", "id", "keep_open"]
)
WORDS = st.sampled_from(["start", "stop", "flush", "keepalive"])


@each_codec
@settings(max_examples=100, deadline=None)
@given(message=st.dictionaries(FIELDS, JSON | WORDS, max_size=5), word=WORDS)
def test_no_json_raises(codec: V1Codec | V2Codec, message: dict[str, object], word: str) -> None:
    assert isinstance(codec.decode(json.dumps({**message, tag(codec): word})), Message)
