"""The fields of a transcription: translated to the words of the core, or refused by name."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import BadRequest
from streamer.protocols.openai.file_request import ResponseFormat, TurnFloor, read_request
from streamer.session.messages import VadOverrides


def test_fields_become_options_of_the_model() -> None:
    fields = [("language", "de"), ("prompt", "Namen"), ("temperature", "0.2")]
    asked = read_request(fields, "whisper", ("language", "prompt", "temperature"))
    assert json.loads(asked.options) == {"language": "de", "prompt": "Namen", "temperature": 0.2}
    assert (asked.language, asked.ignored) == ("de", ())


def test_options_that_the_model_does_not_read_are_named_and_left_out() -> None:
    asked = read_request([("language", "de"), ("temperature", "0.2")], "whisper", ("language",))
    assert json.loads(asked.options) == {"language": "de"}
    assert asked.ignored == ("temperature",)


def test_a_translation_is_a_task_of_the_model() -> None:
    assert json.loads(read_request([], "whisper", ("task",), translate=True).options) == {"task": "translate"}


def test_a_form_without_fields_asks_for_json_in_one_piece() -> None:
    asked = read_request([], "moonshine")
    assert (asked.format, asked.is_stream, asked.options, asked.ignored) == (ResponseFormat.JSON, False, b"{}", ())
    assert asked.vad == VadOverrides()


@pytest.mark.parametrize("brackets", ["", "[]"])
def test_lists_come_with_or_without_brackets(brackets: str) -> None:
    name = f"timestamp_granularities{brackets}"
    asked = read_request([("response_format", "verbose_json"), (name, "word"), (name, "segment")], "m")
    assert (asked.has_words, asked.has_segments) == (True, True)
    words = read_request([("response_format", "verbose_json"), (name, "word")], "m")
    assert (words.has_words, words.has_segments) == (True, False)
    assert read_request([(f"include{brackets}", "logprobs")], "m").has_logprobs


@pytest.mark.parametrize(
    "fields",
    [
        [("chunking_strategy", '{"type":"server_vad","threshold":0.6,"silence_duration_ms":900}')],
        [
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.6"),
            ("chunking_strategy[silence_duration_ms]", "900"),
        ],
    ],
)
def test_a_chunking_strategy_changes_the_detection_of_speech(fields: list[tuple[str, str]]) -> None:
    assert read_request(fields, "m").vad == VadOverrides(
        positive_speech_threshold=0.6, negative_speech_threshold=0.45, redemption_time_ms=900
    )


def test_a_padding_and_a_silence_that_would_cut_words_are_lengthened() -> None:
    floor = TurnFloor(600, 300)
    asked = VadOverrides(pre_speech_pad_ms=100, redemption_time_ms=900)
    assert floor.raised(asked) == VadOverrides(pre_speech_pad_ms=600, redemption_time_ms=900)
    assert floor.raised(VadOverrides()) == VadOverrides()


def test_parameters_without_effect_are_named() -> None:
    fields = [("model", "whisper-1"), ("keywords[]", "a"), ("known_speaker_names[]", "b"), ("colour", "red")]
    assert read_request(fields, "m").ignored == ("colour", "keywords", "known_speaker_names", "model")
    assert read_request([("model", "m")], "m").ignored == ()


WRONG = {
    "response_format": [("response_format", "docx")],
    "timestamp_granularities": [("response_format", "verbose_json"), ("timestamp_granularities[]", "letter")],
    "temperature": [("temperature", "hot")],
    "stream": [("stream", "perhaps")],
    "prompt": [("prompt", "x" * 10_000)],
    "language": [("language", "x" * 100)],
    "chunking_strategy": [("chunking_strategy", '{"type":"none"}')],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_field_is_named(field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_request(WRONG[field], "m")
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("temperature", [("temperature", "nan")]),
        ("temperature", [("temperature", "1.5")]),
        ("stream", [("stream", "true"), ("response_format", "srt")]),
        ("timestamp_granularities", [("timestamp_granularities[]", "word")]),
        ("response_format", [("response_format", "diarized_json")]),
        ("chunking_strategy", [("chunking_strategy", "[" * 100_000)]),
        ("chunking_strategy", [("chunking_strategy[type]", "server_vad"), ("chunking_strategy[threshold]", "2")]),
    ],
)
def test_values_that_cannot_be_served_are_refused(field: str, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequest) as refused:
        read_request(fields, "m")
    assert refused.value.field == field
    assert len(refused.value.message) < 400


NAMES = st.sampled_from(["model", "stream", "temperature", "response_format", "chunking_strategy", "language", "x[y]"])


@given(st.lists(st.tuples(NAMES, st.text(max_size=40)), max_size=6))
def test_no_field_raises_anything_else(fields: list[tuple[str, str]]) -> None:
    with suppress(BadRequest):
        read_request(fields, "m")
