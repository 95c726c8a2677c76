"""The query of Deepgram's `/v1/listen`: what it becomes, what is ignored by its name, what is refused by its name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.format import AudioFormat, Encoding
from streamer.errors import BadRequest
from streamer.media.formats import Container, MediaFormat
from streamer.protocols.deepgram.query import read_listen
from streamer.protocols.deepgram.shared_query import ListenPolicy
from streamer.session.events import Mode
from streamer.session.settings import SessionSettings
from tests.dialects.deepgram import RAW, request


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ({"sample_rate": "16000", "encoding": "speex"}, "encoding"),
        ({"encoding": "linear16"}, "sample_rate"),
        (RAW | {"sample_rate": "1"}, "sample_rate"),
        (RAW | {"sample_rate": "١٦٠٠٠"}, "sample_rate"),
        (RAW | {"channels": "9"}, "channels"),
        (RAW | {"channels": "0"}, "channels"),
        (RAW | {"channels": "two"}, "channels"),
        ({"encoding": "opus", "channels": "3"}, "channels"),
        (RAW | {"interim_results": "yes"}, "interim_results"),
        (RAW | {"multichannel": ""}, "multichannel"),
        (RAW | {"vad_events": "2"}, "vad_events"),
        (RAW | {"endpointing": "soon"}, "endpointing"),
        (RAW | {"endpointing": "-1"}, "endpointing"),
        (RAW | {"endpointing": "10001"}, "endpointing"),
        (RAW | {"utterance_end_ms": "999", "interim_results": "true"}, "utterance_end_ms"),
        (RAW | {"utterance_end_ms": "1000"}, "utterance_end_ms"),
        (RAW | {"redact": "pci"}, "redact"),
        (RAW | {"profanity_filter": "true"}, "profanity_filter"),
        (RAW | {"callback": "https://example.org"}, "callback"),
        (RAW | {"diarize": "maybe"}, "diarize"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(query: dict[str, str], named: str) -> None:
    with pytest.raises(BadRequest, match=f"^{named}: expected ") as caught:
        request(**query)
    assert caught.value.field == named


@pytest.mark.parametrize(
    ("encoding", "pcm"),
    [
        ("linear16", Encoding.PCM_S16LE),
        ("linear32", Encoding.PCM_F32LE),
        ("mulaw", Encoding.MULAW),
        ("alaw", Encoding.ALAW),
    ],
)
def test_raw_encodings_are_pcm(encoding: str, pcm: Encoding) -> None:
    start = request(encoding=encoding, sample_rate="8000").start
    assert (start.format, start.media) == (AudioFormat(pcm, 8_000, 1), None)


@pytest.mark.parametrize(
    ("query", "media"),
    [
        ({}, MediaFormat(Container.AUTO, None, True)),
        ({"multichannel": "true"}, MediaFormat(Container.AUTO, None, False)),
        ({"encoding": "flac"}, MediaFormat(Container.FLAC, None, True)),
        ({"encoding": "ogg-opus"}, MediaFormat(Container.OGG, None, True)),
        ({"encoding": "opus", "channels": "2", "sample_rate": "48000"}, MediaFormat(Container.OPUS, 2, True)),
        ({"encoding": "amr-wb"}, MediaFormat(Container.AMR, None, True)),
    ],
)
def test_other_encodings_are_compressed_and_none_is_found_out(query: dict[str, str], media: MediaFormat) -> None:
    assert request(**query).start.media == media


@pytest.mark.parametrize(
    ("value", "redemption_ms"), [(None, None), ("true", None), ("25", 300.0), ("300", 300.0), ("1200", 1200.0)]
)
def test_endpointing_is_the_silence_that_ends_speech_with_a_floor(value: str | None, redemption_ms: float) -> None:
    query = RAW if value is None else RAW | {"endpointing": value}
    assert request(**query).start.vad.redemption_time_ms == redemption_ms


def test_parameters_reach_a_model_that_reads_them_and_the_others_are_named() -> None:
    policy = ListenPolicy(SessionSettings(Mode.SEGMENTED), 300, ("language", "keyterm", "beam_size"))
    query = [*RAW.items(), ("keyterm", "a"), ("keyterm", "b"), ("language", "de"), ("model", "nova-3")]
    others = [("beam_size", "9"), ("smart_format", "true"), ("langauge", "de"), ("access_token", "t")]
    read = read_listen([*query, *others], policy)
    assert json.loads(read.start.options) == {"language": "de", "keyterm": ["a", "b"]}
    assert read.ignored == ("model", "beam_size", "smart_format", "langauge")


def test_a_language_is_named_when_the_model_has_one_and_multi_is_no_language() -> None:
    assert request(**RAW, language="de").ignored == ("language",)
    read = request("language", **RAW, language="multi")
    assert (read.start.options, read.ignored, read.is_multilingual) == (b"{}", (), True)


def test_parameters_without_effect_can_be_refused_but_for_the_model() -> None:
    assert request(refuse_ignored=True, **RAW, model="nova-3").ignored == ("model",)
    with pytest.raises(BadRequest, match=r"^smart_format: expected no parameter without effect"):
        request(refuse_ignored=True, **RAW, model="nova-3", smart_format="true")


_names = st.sampled_from([*RAW, "channels", "endpointing", "language", "x"]) | st.text(max_size=5)


@given(query=st.lists(st.tuples(_names, st.text(max_size=12)), max_size=8))
def test_any_query_is_a_request_or_is_refused_by_a_name(query: list[tuple[str, str]]) -> None:
    refused: str | None = None
    try:
        read_listen(query, ListenPolicy(SessionSettings(Mode.SEGMENTED)))
    except BadRequest as error:
        refused = error.field
    assert refused is None or refused in dict(query) or refused == "sample_rate"
