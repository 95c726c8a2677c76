"""The codec of Speechmatics' protocol: frames of any kind, audio cut anywhere, and text as words and punctuation."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ErrorCode
from streamer.protocols.opening import Opening
from streamer.protocols.speechmatics import RecognitionPolicy, Speechmatics
from streamer.protocols.speechmatics_channels import MAX_WAITING_BYTES
from streamer.protocols.speechmatics_results import delimiter_of, results_of
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.settings import SessionSettings
from streamer.transcripts.transcript import Transcript, Word
from tests.dialects.recogniser import SENTENCES, conversation, messages, recognise
from tests.protocols.played import Played

RAW = {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000}
START = json.dumps({"message": "StartRecognition", "audio_format": RAW, "transcription_config": {"language": "en"}})
END = '{"message":"EndOfStream","last_seq_no":9}'
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
NAMES = st.sampled_from(["audio_format", "transcription_config", "conversation_config", "language", "enable_partials"])
TYPES = st.sampled_from(
    ["StartRecognition", "SetRecognitionConfig", "GetSpeakers", "AddChannelAudio", "EndOfChannel", "x"]
)
FRAMES = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=4_000),
    st.builds(lambda type_, rest: json.dumps({**rest, "message": type_}), TYPES, st.dictionaries(NAMES, JSON)),
    st.sampled_from([START, END, '{"message":"ForceEndOfUtterance"}', '{"message":"GetSpeakers"}']),
)


def codec() -> Speechmatics:
    return Speechmatics(Opening("/v2", id="id"), None, RecognitionPolicy(), 16_000)


def played() -> Played[str | bytes]:
    return Played(codec(), SessionSettings(Mode.SEGMENTED), recognise)


def read(frames: list[str | bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


@given(st.lists(FRAMES, max_size=12), st.booleans())
def test_frames_of_any_kind_are_taken_or_end_the_session(frames: list[str | bytes], is_started: bool) -> None:
    frames = [START, *frames] if is_started else frames
    for event in read(played().receive(*frames)):
        assert event["message"]
    made = codec()
    for frame in frames:
        message = made.decode(frame)
        if isinstance(message, Malformed):
            assert message.fatal
            assert len(message.message) < 600


@settings(max_examples=20)
@given(st.integers(64, 70_000))
def test_audio_cut_anywhere_makes_the_same_transcript_and_an_answer_to_each_message(size: int) -> None:
    pieces = messages(conversation(), size)
    events = read(played().receive(START, *pieces, END))
    added = [event["seq_no"] for event in events if event["message"] == "AudioAdded"]
    assert added == list(range(1, len(pieces) + 1))
    finals = [event["metadata"]["transcript"] for event in events if event["message"] == "AddTranscript"]
    assert finals == [f"{text} " for text in SENTENCES[:2]]
    assert events[-1]["message"] == "EndOfTranscript"


def test_audio_that_waits_for_another_channel_is_bounded() -> None:
    config = {"diarization": "channel", "channel_diarization_labels": ["a", "b"]}
    made = codec()
    made.decode(json.dumps({"message": "StartRecognition", "audio_format": RAW, "transcription_config": config}))
    data = base64.b64encode(bytes(512 * 1024)).decode()
    frame = json.dumps({"message": "AddChannelAudio", "channel": "a", "data": data})
    for _ in range(MAX_WAITING_BYTES // (512 * 1024)):
        assert not isinstance(made.decode(frame), Malformed)
    refused = made.decode(frame)
    assert isinstance(refused, Malformed)
    assert refused.code is ErrorCode.RATE_LIMITED


@given(st.lists(st.text(st.sampled_from("ab.,!?-'"), min_size=1, max_size=6), max_size=8))
def test_clients_that_join_the_results_read_the_text(words: list[str]) -> None:
    text = " ".join(words)
    joined = ""
    for result in results_of(Transcript(text), 0.0, 2.0, language="en", speaker=None):
        content = result.alternatives[0].content
        joined += content if result.attaches_to == "previous" else f" {content}"
        assert 0.0 <= result.start_time <= result.end_time <= 2.0
    assert joined.replace(" ", "") == text.replace(" ", "")
    if all(word.strip(".,!?") for word in words):
        assert joined.strip() == text


def test_a_word_keeps_its_times_confidence_language_and_speaker() -> None:
    word = Word("Ciao!", 1.0, 1.5, 0.5, language="it", speaker="S2")
    first, second = results_of(Transcript("Ciao!", [word]), 0.0, 9.0, language="en", speaker="UU")
    assert (first.type, first.start_time, first.end_time) == ("word", 1.0, 1.5)
    alternative = first.alternatives[0]
    assert (alternative.content, alternative.confidence, alternative.language) == ("Ciao", 0.5, "it")
    assert alternative.speaker == "S2"
    assert (second.type, second.start_time, second.end_time, second.is_eos) == ("punctuation", 1.5, 1.5, True)


@pytest.mark.parametrize(("language", "delimiter"), [("en", " "), ("ja", ""), ("zh-CN", ""), ("cmn", ""), ("", " ")])
def test_languages_without_spaces_have_no_delimiter(language: str, delimiter: str) -> None:
    assert delimiter_of(language) == delimiter
