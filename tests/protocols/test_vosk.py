"""The codec of Vosk: as many answers as messages, whatever their sizes, and nothing that makes it raise."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import ErrorCode
from streamer.protocols.vosk import Vosk
from streamer.session.actions import JobFailed
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.settings import SessionSettings
from tests.dialects.recogniser import SENTENCES, conversation, recognise, sentence, silence
from tests.protocols.played import Played

AUDIO = conversation()
SETTINGS = SessionSettings(Mode.SEGMENTED)
EOF = '{"eof" : 1}'


def played(*, held: bool = False) -> Played[str | bytes]:
    """A connection that has said its sample rate."""
    connection = Played(Vosk(16_000), SETTINGS, recognise, held=held)
    assert connection.receive('{"config": {"sample_rate": 16000}}') == []
    return connection


def read(frames: list[str | bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def texts(answers: list[dict[str, Any]]) -> str:
    return " ".join(answer["text"] for answer in answers if answer.get("text"))


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(AUDIO)), max_size=40))
def test_audio_cut_anywhere_has_an_answer_to_each_piece_and_one_transcript(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(AUDIO)]
    pieces = [AUDIO[start:end] for start, end in pairwise(edges)]
    connection = played()
    answers = []
    for number, piece in enumerate(pieces):
        answers += read(connection.receive(piece))
        assert len(answers) == number + 1  # a client in lockstep goes on
    last = read(connection.receive(EOF))
    assert len(last) == 1
    assert texts([*answers, *last]) == " ".join(SENTENCES[:2])
    assert connection.close is not None


def test_a_message_in_which_speech_ends_is_answered_by_its_final() -> None:
    connection = played(held=True)
    assert read(connection.receive(silence(0.5) + sentence(1))) == [{"partial": ""}]
    assert connection.receive(silence()) == []
    assert connection.receive(silence(0.5)) == []
    assert read(connection.answer()) == [{"text": SENTENCES[0]}, {"partial": ""}]


def test_a_drain_sends_the_finals_that_were_not_asked_for() -> None:
    connection = played()
    connection.receive(silence(0.5) + sentence(1))
    assert read(connection.finish()) == [{"text": SENTENCES[0]}]
    silent = played()
    silent.receive(silence())
    assert silent.finish() == []


def test_a_range_without_a_result_still_has_an_answer() -> None:

    connection = Played(Vosk(8_000), SETTINGS, lambda _: JobFailed(ErrorCode.MODEL_ERROR, "broken"))
    answers = read(connection.receive(silence(0.5, 8_000) + sentence(1, rate=8_000) + silence(rate=8_000), b""))
    assert answers == [{"partial": ""}, {"partial": ""}]
    assert read(connection.receive(EOF)) == [{"text": ""}]


FRAMES = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=4_000),
    st.sampled_from(['{"reset":1}', EOF, '{"eof":0}', '{"config":{}}', '{"config":{"words":false}}']),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    ).map(lambda value: json.dumps({"config": value})),
)


@given(st.lists(FRAMES, max_size=12))
def test_frames_of_any_kind_are_answered_or_end_the_connection(frames: list[str | bytes]) -> None:
    connection = Played(Vosk(16_000), SETTINGS, recognise)
    for answer in read(connection.receive(*frames)):
        assert answer.keys() & {"partial", "text", "alternatives"}
    codec = Vosk(16_000)
    for frame in frames:
        message = codec.decode(frame)
        if isinstance(message, Malformed):
            assert message.fatal
            assert len(message.message) < 600
