"""Wyoming's framing and codec: bytes cut anywhere, what the package writes and reads, frames of any kind."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.errors import StreamerError
from streamer.protocols.wyoming import Wyoming, WyomingProgram
from streamer.protocols.wyoming_wire import EventParser, WyomingEvent, WyomingLimits, encode_event
from streamer.session.events import Mode
from streamer.session.messages import Malformed
from streamer.session.settings import SessionSettings
from tests.dialects.recogniser import SENTENCES, conversation, messages, recognise
from tests.protocols.played import Played

PROGRAM = WyomingProgram("m", "1", ("en",))
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}
DATA = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
    max_size=4,
)
TYPES = st.sampled_from(
    ["audio-start", "audio-chunk", "audio-stop", "transcribe", "describe", "ping", "select-program", "detect", ""]
)
EVENTS = st.builds(WyomingEvent, TYPES | st.text(max_size=8), DATA | st.just(FORMAT), st.binary(max_size=600))


def parsed(data: bytes, cuts: list[int], limits: WyomingLimits | None = None) -> list[WyomingEvent]:
    """Return the events of bytes that arrive in pieces."""
    parser = EventParser(limits or WyomingLimits())
    events = []
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        parser.feed(data[start:end])
        while (event := parser.next()) is not None:
            events.append(event)
    return events


@given(st.lists(EVENTS, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_events_cut_anywhere_are_the_same_events(events: list[WyomingEvent], cuts: list[int]) -> None:
    assert parsed(b"".join(map(encode_event, events)), cuts) == events


@given(st.lists(EVENTS, max_size=5))
def test_the_package_reads_what_is_written(events: list[WyomingEvent]) -> None:
    package = pytest.importorskip("wyoming.event", reason="pip install wyoming==1.10.2")
    reader = io.BytesIO(b"".join(map(encode_event, events)))
    for event in events:
        read = package.read_event(reader)
        assert (read.type, read.data, read.payload or b"") == (event.type, event.data, event.payload)


@given(st.lists(EVENTS, max_size=5), st.lists(st.integers(0, 10_000), max_size=20))
def test_what_the_package_writes_is_read(events: list[WyomingEvent], cuts: list[int]) -> None:
    package = pytest.importorskip("wyoming.event", reason="pip install wyoming==1.10.2")
    writer = io.BytesIO()
    for event in events:
        package.write_event(package.Event(event.type, event.data, event.payload or None), writer)
    assert parsed(writer.getvalue(), cuts) == events


def test_data_may_be_in_the_line_and_after_it() -> None:
    more = b'{"b":2}'
    line = json.dumps({"type": "ping", "data": {"a": 1, "b": 1}, "data_length": len(more)}).encode()
    assert parsed(line + b"\n" + more, []) == [WyomingEvent("ping", {"a": 1, "b": 2})]


@pytest.mark.parametrize("room", [0, 1])
def test_each_part_of_an_event_may_have_its_limit_and_no_byte_more(room: int) -> None:
    limits = WyomingLimits(line=60, data=20, payload=30)
    line = b'{"type":"x"' + b" " * (60 - 12 + room) + b"}\n"
    data = b'{"type":"x","data_length":%d}\n%s' % (20 + room, b'{"a":"' + b"b" * (12 + room) + b'"}')
    payload = b'{"type":"x","payload_length":%d}\n%s' % (30 + room, b"p" * (30 + room))
    for event in (line, data, payload):
        if not room:
            assert len(parsed(event, [], limits)) == 1
            continue
        with pytest.raises(StreamerError) as refused:
            parsed(event, [], limits)
        assert refused.value.code == "message_too_big"


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_bytes_of_any_kind_are_events_or_an_error(data: bytes, cuts: list[int]) -> None:
    message = ""
    try:
        parsed(data + b"\n", cuts)
    except StreamerError as error:
        message = error.message
    assert len(message) < 600


@given(st.lists(EVENTS, max_size=12))
def test_events_of_any_kind_are_answered_ignored_or_end_the_connection(events: list[WyomingEvent]) -> None:
    connection = Played(Wyoming(PROGRAM), SessionSettings(Mode.SEGMENTED), recognise)
    for sent in connection.receive(*events):
        encode_event(sent)
    codec = Wyoming(PROGRAM)
    for event in events:
        message = codec.decode(event)
        if isinstance(message, Malformed):
            assert message.fatal
            assert len(message.message) < 600


@settings(max_examples=20)
@given(st.integers(2, 70_000))
def test_a_command_in_chunks_of_any_size_has_one_transcript(size: int) -> None:
    connection = Played(Wyoming(PROGRAM), SessionSettings(Mode.SEGMENTED), recognise)
    chunks = [
        WyomingEvent("audio-chunk", {**FORMAT, "timestamp": 7}, piece) for piece in messages(conversation(), size)
    ]
    sent = connection.receive(WyomingEvent("audio-start", FORMAT), *chunks, WyomingEvent("audio-stop"))
    assert [event.data["text"] for event in sent if event.type == "transcript"] == [" ".join(SENTENCES[:2])]


def test_the_language_of_a_command_goes_to_a_model_that_reads_it_and_into_its_transcript() -> None:
    asked = []

    def answer(job):  # type: ignore[no-untyped-def]
        asked.append(json.loads(job.options))
        return recognise(job)

    chunk = WyomingEvent("audio-chunk", FORMAT, conversation())
    for reads, expected in ((True, {"language": "de-DE"}), (False, {})):
        codec = Wyoming(replace(PROGRAM, reads_language=reads))
        connection = Played(codec, SessionSettings(Mode.SEGMENTED), answer)
        sent = connection.receive(WyomingEvent("transcribe", {"language": "de-DE"}), chunk, WyomingEvent("audio-stop"))
        assert asked.pop() == expected
        [transcript] = [event.data for event in sent if event.type == "transcript"]
        assert transcript == {"text": transcript["text"], **expected}


async def test_the_asynchronous_reader_of_the_package_reads_what_is_written() -> None:
    package = pytest.importorskip("wyoming.event", reason="pip install wyoming==1.10.2")
    reader = asyncio.StreamReader()
    reader.feed_data(encode_event(PROGRAM.info()))
    reader.feed_eof()
    assert (await package.async_read_event(reader)).data == PROGRAM.info().data
    assert await package.async_read_event(reader) is None
