"""Fuzz targets of protocols whose messages are frames of a WebSocket, a line each."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from streamer.errors import BadRequest
from streamer.protocols.assemblyai import AssemblyAi, TurnPolicy, read_request
from streamer.protocols.calls import CallReport
from streamer.protocols.codec import Codec
from streamer.protocols.opening import Opening
from streamer.protocols.speechmatics import RecognitionPolicy, Speechmatics
from streamer.protocols.twilio import Twilio
from streamer.protocols.vosk import Vosk
from streamer.session.actions import Job, JobKind, Output
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.settings import SessionSettings
from streamer.testing import s16le, silence, tone
from tests.protocols.played import Played

RATE = 16_000
MAX_ERROR = 600
MAX_LINES = 60
MAX_SPOKEN = 3
"""Lines of an input that stand for an utterance: each costs a hundred times what another one does."""
SETTINGS = SessionSettings(Mode.SEGMENTED)
UTTERANCE = s16le(tone(440, 0.4)) + s16le(silence(1.2))
SPEAK = b"\1"
"""A line that stands for an utterance and the silence after it."""


def answer(job: Job) -> Output:
    """Return a transcript with words and a language, or a plain text, by turns."""
    if job.segment_id % 2:
        return Output.of("Hello there.")
    words = [{"word": "Good", "start_time": 0.1, "end_time": 0.2}, {"word": "bye!", "start_time": 0.2, "end_time": 0.4}]
    return Output.of({"text": "Good bye!", "words": words if job.kind is JobKind.FINAL else [], "language": "en"})


def vosk(data: bytes) -> None:
    """Lines that are text, audio if they begin with a zero, or an utterance."""
    play_lines(Vosk(RATE), data)


def assemblyai(data: bytes) -> None:
    """A query, and lines as above."""
    query, _, lines = data.partition(b"\n")
    policy = TurnPolicy()
    try:
        plan = read_request(parse_qsl(query.decode("latin-1")), policy)
    except BadRequest as error:
        check_message(error.message)
        return
    opening = Opening("/v3/ws", id="id", at=1.7e9)
    play_lines(AssemblyAi(plan, opening, policy, "m", RATE), lines)


def speechmatics(data: bytes) -> None:
    """The language of the path, and lines as above."""
    language, _, lines = data.partition(b"\n")
    opening = Opening("/v2", id="id", at=1.7e9)
    play_lines(Speechmatics(opening, language.decode("latin-1") or None, RecognitionPolicy(), RATE), lines)


def twilio(data: bytes) -> None:
    """Lines as above, of which only text is of the protocol. Every event of the feed is JSON, and a call ends once."""
    feed: list[Any] = []
    report = CallReport(Twilio.name, RATE, lambda event: feed.append(json.loads(msgspec.json.encode(event))))
    play_lines(Twilio(report), data)
    report.end("disconnected", 0)
    check_feed(feed)


def check_message(text: str) -> None:
    """An error is short, however long the input is."""
    if len(text) >= MAX_ERROR:
        raise AssertionError(text)


def check_feed(feed: list[Any]) -> None:
    """One start comes first, and one end last; or nothing at all."""
    kinds = [event["type"] for event in feed]
    assert not kinds or (kinds[0], kinds[-1]) == ("call_started", "call_ended")
    assert kinds.count("call_started") == kinds.count("call_ended") == bool(kinds)


def play_lines(codec: Codec[str | bytes], data: bytes) -> None:
    """Give lines to a codec and its messages to a session: nothing raises, and every answer is JSON."""
    told = checked(codec)
    connection = Played(told, SETTINGS, answer)
    spoken = 0
    for line in data.split(b"\n")[:MAX_LINES]:
        frame: str | bytes = line.decode("utf-8", "replace")
        if line == SPEAK:
            spoken += 1
            frame = UTTERANCE if spoken <= MAX_SPOKEN else b""
        elif line[:1] == b"\0":
            frame = line[1:]
        for sent in connection.receive(frame):
            json.loads(sent)
    for sent in connection.finish() if connection.close is None else ():
        json.loads(sent)


def checked(codec: Any) -> Any:
    """Return the codec, whose errors are looked at: each is short."""
    decode = codec.decode

    def looked_at(frame: Any) -> Any:
        given = decode(frame)
        for step in given if isinstance(given, list) else [given]:
            if isinstance(step, Malformed):
                check_message(step.message)
        return given

    codec.decode = looked_at
    return codec
