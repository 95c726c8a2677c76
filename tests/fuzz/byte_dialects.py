"""Fuzz targets of protocols that are bytes of a TCP connection; the first byte of an input says where to cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from streamer.errors import ErrorCode, StreamerError
from streamer.protocols.audiosocket import (
    IDENTITY,
    AudioSocket,
    AudioSocketFrame,
    AudioSocketParser,
    call_id_of,
    encode_frame,
)
from streamer.protocols.calls import CallReport
from streamer.protocols.wyoming import Wyoming, WyomingProgram
from streamer.protocols.wyoming_wire import EventParser, WyomingEvent, WyomingLimits, encode_event
from tests.fuzz.text_dialects import RATE, SETTINGS, UTTERANCE, answer, check_feed, check_message, checked
from tests.protocols.played import Played

LIMITS = WyomingLimits(line=300, data=200, payload=600)
"""Small ones, so that an input reaches them."""
MAX_FRAMES = 60
SPEAK = b"\1"
"""A payload that stands for an utterance and the silence after it."""


class FrameParser(Protocol):
    """A parser of bytes that are cut anywhere."""

    @property
    def held_bytes(self) -> int: ...

    def feed(self, data: bytes) -> None: ...

    def next(self) -> Any: ...


def wyoming(data: bytes) -> None:
    """Events of Wyoming: the same however they are cut, and each is answered, ignored or an error."""
    frames, _ = cut_anywhere(lambda: EventParser(LIMITS), data)
    for frame in frames:
        again = EventParser()
        again.feed(encode_event(frame))
        assert again.next() == frame
        assert again.held_bytes == 0
    connection = Played(checked(Wyoming(WyomingProgram("m", "1", ("en",)))), SETTINGS, answer)
    for frame in frames[:MAX_FRAMES]:
        spoken = msgspec.structs.replace(frame, payload=UTTERANCE) if frame.payload == SPEAK else frame
        for sent in connection.receive(spoken):
            read_back(sent)
    for sent in connection.finish() if connection.close is None else ():
        read_back(sent)


def read_back(event: WyomingEvent) -> None:
    """Parse what is sent, as a client does."""
    line, _, rest = encode_event(event).partition(b"\n")
    assert len(rest) == json.loads(line).get("data_length", 0)
    json.loads(rest or b"{}")


def audiosocket(data: bytes) -> None:
    """Frames of AudioSocket: the same however they are cut, and a call has one start and one end, or none."""
    frames, _ = cut_anywhere(AudioSocketParser, data)
    for frame in frames:
        again = AudioSocketParser()
        again.feed(encode_frame(frame))
        assert again.next() == frame
    first = frames[0] if frames else AudioSocketFrame(IDENTITY)
    try:
        call_id = call_id_of(first)
    except StreamerError as error:
        check_message(error.message)
        return
    feed: list[Any] = []
    report = CallReport(AudioSocket.name, RATE, lambda event: feed.append(json.loads(msgspec.json.encode(event))))
    connection = Played(checked(AudioSocket(call_id, report)), SETTINGS, answer)
    for frame in frames[1:MAX_FRAMES]:
        spoken = frame._replace(payload=UTTERANCE) if frame.payload == SPEAK else frame
        assert connection.receive(spoken) == []
    report.end("disconnected", 0)
    check_feed(feed)


def cut_anywhere(new_parser: Callable[[], FrameParser], data: bytes) -> tuple[list[Any], ErrorCode | None]:
    """Return the frames and the error of `data` after its first byte, which says the size of a piece."""
    size, data = 1 + (data[0] if data else 0), data[1:]
    whole = _parsed(new_parser(), [data])
    parts = _parsed(new_parser(), [data[at : at + size] for at in range(0, len(data), size)])
    assert whole == parts
    return whole


def _parsed(parser: FrameParser, pieces: list[bytes]) -> tuple[list[Any], ErrorCode | None]:
    frames: list[Any] = []
    fed = 0
    try:
        for piece in pieces:
            parser.feed(piece)
            fed += len(piece)
            while (frame := parser.next()) is not None:
                frames.append(frame)
            assert parser.held_bytes <= fed
    except StreamerError as error:
        check_message(error.message)
        return frames, error.code
    return frames, None
