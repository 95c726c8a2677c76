"""The codec of AssemblyAI's v3: its query and its messages, of any kind, and audio cut anywhere."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import BadRequest
from streamer.protocols.assemblyai import AssemblyAi, TurnPolicy, read_request
from streamer.protocols.opening import Opening
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.settings import SessionSettings
from tests.dialects.recogniser import SENTENCES, conversation, messages, recognise
from tests.protocols.played import Played

POLICY = TurnPolicy()
TERMINATE = '{"type":"Terminate"}'
NAMES = st.sampled_from(
    [
        "sample_rate",
        "encoding",
        "format_turns",
        "vad_threshold",
        "max_turn_silence",
        "language_codes",
        "redact_pii",
        "x",
    ]
)
VALUES = st.text(max_size=8) | st.sampled_from(["16000", "True", "false", "0.5", "[]", '["en"]', "pcm_mulaw", "opus"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
MESSAGES = st.dictionaries(NAMES, JSON, max_size=4).map(
    lambda changes: json.dumps({"type": "UpdateConfiguration", **changes})
)
FRAMES = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=4_000),
    MESSAGES,
    st.sampled_from(['{"type":"ForceEndpoint"}', '{"type":"KeepAlive"}', TERMINATE]),
)


def codec(*query: tuple[str, str], policy: TurnPolicy = POLICY) -> AssemblyAi:
    plan = read_request((("sample_rate", "16000"), *query), policy)
    return AssemblyAi(plan, Opening("/v3/ws", id="id", at=1_700_000_000.0), policy, "m", 16_000)


def played(*query: tuple[str, str]) -> Played[str | bytes]:
    return Played(codec(*query), SessionSettings(Mode.SEGMENTED), recognise)


def read(frames: list[str | bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_a_query_of_any_kind_is_a_session_or_refused_with_a_reason(query: list[tuple[str, str]]) -> None:
    message = ""
    try:
        plan = read_request(query, POLICY)
    except BadRequest as error:
        message = error.message
    else:
        made = AssemblyAi(plan, Opening("/v3/ws"), POLICY, "m", 16_000)
        assert Played(made, SessionSettings(Mode.SEGMENTED), recognise).close is None
    assert len(message) < 600


@given(st.lists(FRAMES, max_size=12))
def test_frames_of_any_kind_are_taken_or_end_the_session(frames: list[str | bytes]) -> None:
    for event in read(played().receive(*frames)):
        assert event["type"] in {"Begin", "Turn", "SpeechStarted", "Termination", "Error", "Warning"}
    made = codec()
    for frame in frames:
        message = made.decode(frame)
        if isinstance(message, Malformed):
            assert message.fatal
            assert len(message.message) < 600


@settings(max_examples=20)
@given(st.integers(1, 70_000))
def test_audio_cut_anywhere_makes_the_same_turns(size: int) -> None:
    events = read(played().receive(*messages(conversation(), size), TERMINATE))
    turns = [event for event in events if event["type"] == "Turn"]
    assert [turn["transcript"] for turn in turns if turn["end_of_turn"]] == list(SENTENCES[:2])
    assert events[0]["type"] == "Begin"
    assert events[-1]["type"] == "Termination"
    for turn in turns:
        times = [time for word in turn["words"] for time in (word["start"], word["end"])]
        assert all(isinstance(time, int) for time in times)
        assert times == sorted(times)


def test_the_language_and_the_prompt_go_to_a_model_that_reads_them() -> None:
    asked = []

    def answer(job):  # type: ignore[no-untyped-def]
        asked.append(json.loads(job.options))
        return recognise(job)

    query = ("language_codes", '["de"]'), ("prompt", "names")
    for known, expected in (
        (("language", "prompt"), {"language": "de", "prompt": "names"}),
        (("prompt",), {"prompt": "names"}),
        ((), {}),
    ):
        made = codec(*query, policy=TurnPolicy(model_options=known))
        Played(made, SessionSettings(Mode.SEGMENTED), answer).receive(conversation(), TERMINATE)
        assert asked.pop() == expected
