"""Rows 15 to 18 of the fault table: formats that cannot be served, JSON and protobuf that are hostile, bad UTF-8."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from tests.faults.arena import LocalArena
from tests.faults.fault import Fault, complaint, fatal, fault, harmless, session
from tests.faults.peers import DIALECTS, SECOND, START, WAYS, covered

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("dialect", DIALECTS)
every_way = pytest.mark.parametrize("way", WAYS)

INVALID_FORMAT = fatal(ErrorCode.INVALID_FORMAT, streams=0)
BAD_REQUEST = complaint(ErrorCode.BAD_REQUEST)
TOO_BIG = fatal(ErrorCode.MESSAGE_TOO_BIG)


# Rows 15 and 16: formats that cannot be served ----------------------------------------------------


CHANNELS = (0, 9, 10**9)
RATES = (0, 1, 10**9, 3_999, 192_001)
CHANNELS_OF_JSON = (-1, 1.5, True, "1", None, 10**40)
"""Protobuf has whole numbers from 0 alone."""
RATES_OF_JSON = (-16_000, 16_000.5, False, "16000")


@fault(15, lambda case: INVALID_FORMAT * (3 if case["way"] == "grpc" else 9))
@every_way
async def test_channels_that_cannot_be_served(arena: LocalArena, way: str) -> None:
    for channels in (*CHANNELS, *(CHANNELS_OF_JSON if way != "grpc" else ())):
        async with arena.peer(way) as peer:
            await peer.start_format(channels=channels)
            await peer.ended_with(ErrorCode.INVALID_FORMAT, "channels")


@fault(16, lambda case: INVALID_FORMAT * (5 if case["way"] == "grpc" else 9))
@every_way
async def test_sample_rates_that_cannot_be_served(arena: LocalArena, way: str) -> None:
    for rate in (*RATES, *(RATES_OF_JSON if way != "grpc" else ())):
        async with arena.peer(way) as peer:
            await peer.start_format(sample_rate=rate)
            await peer.ended_with(ErrorCode.INVALID_FORMAT, "sample_rate")


# Row 17: JSON, and protobuf -----------------------------------------------------------------------

HOSTILE = {
    "broken": '{"type":"start",',
    "deep": '{"type":"start","format":' + "[" * 5_000 + "]" * 5_000 + "}",
    "too large a number": '{"type":"start","request":"start","interim_results":1e400}',
    "half a surrogate": '{"type":"\\ud800","request":"\\ud800"}',
    "a huge integer": '{"type":"stop","request":"stop","disconnect":'
    + "9" * 5_000
    + ',"keep_open":'
    + "9" * 5_000
    + "}",
    "an array": "[]",
    "a number": "17",
    "null": "null",
    "no tag": "{}",
    "an unknown tag": '{"type":"begin","request":"begin"}',
    "a tag that is no text": '{"type":1,"request":1}',
}


def as_it_is_told(params: Mapping[str, Any]) -> Fault:
    """In v2 something else stands where the format belongs: a format that cannot be served."""
    if params["dialect"] == "v1":
        return BAD_REQUEST * len(HOSTILE)
    return BAD_REQUEST * (len(HOSTILE) - 1) + INVALID_FORMAT


@fault(17, as_it_is_told)
@both
async def test_json_that_is_not_of_the_protocol_is_told_and_the_connection_stays(
    arena: LocalArena, dialect: str
) -> None:
    for text in HOSTILE.values():
        async with arena.socket(dialect) as peer:
            await peer.text(text)
            error = await peer.hear()
            assert error["type"] == "error"
            assert len(error["message"]) < 300
            if error["fatal"]:
                await peer.rest()
            else:
                await peer.still_works()


def start(mode: int = pb.MODE_SIMPLE) -> bytes:
    form = pb.AudioFormat(encoding=pb.ENCODING_PCM_S16LE, sample_rate=16_000, channels=1)
    return pb.ClientMessage(start=pb.Start(format=form, mode=mode)).SerializeToString()


def deep(levels: int) -> bytes:
    """Options nested so deep, put together from the inside: protobuf would not write them."""
    value = b"\x20\x01"  # bool_value: true
    for _ in range(levels):  # ListValue in Value
        value = b"\x0a" + _varint(len(value)) + value
        value = b"\x32" + _varint(len(value)) + value
    entry = b"\x0a\x01a\x12" + _varint(len(value)) + value
    options = b"\x0a" + _varint(len(entry)) + entry
    message = pb.Start().SerializeToString() + b"\x52" + _varint(len(options)) + options
    return b"\x0a" + _varint(len(message)) + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


HOSTILE_PROTOBUF = {
    "broken": start()[:-3],
    "deep": deep(300),
    "deep, and longer than words may be": deep(3_000),
    "a length past its end": b"\x0a\xff\xff\xff\xff\x0f",
    "an endless number": b"\x18" + b"\xff" * 20,
    "a group without an end": b"\x0b",
    "no word": b"",
    "a field that nobody knows": b"\x9a\x06\x01x",
    "a mode that nobody knows": start(mode=99),
}


@fault(17, BAD_REQUEST * len(HOSTILE_PROTOBUF))
async def test_protobuf_that_is_not_of_the_protocol_is_told_and_the_call_stays(arena: LocalArena) -> None:
    for name, frame in HOSTILE_PROTOBUF.items():
        async with arena.call() as peer:
            await peer.frame(frame)
            error = await peer.hear()
            assert (name, error["code"], error["fatal"]) == (name, "bad_request", False)
            assert len(error["message"]) < 300
            await peer.still_works()


@fault(17, TOO_BIG)
@both
async def test_json_a_hundred_thousand_levels_deep_is_too_big(arena: LocalArena, dialect: str) -> None:
    async with arena.socket(dialect) as peer:
        await peer.text('{"type":"start","request":"start","options":' + "[" * 25_000 + "]" * 25_000 + "}")
        await peer.ended_with(ErrorCode.MESSAGE_TOO_BIG)


@fault(17, harmless(received_s=1.0))
@both
async def test_of_a_key_that_comes_twice_the_last_counts(arena: LocalArena, dialect: str) -> None:
    once = json.dumps(START[dialect])
    doubled = once.replace('"sample_rate": 16000', '"sample_rate": 1, "sample_rate": 16000')
    assert doubled != once
    async with arena.socket(dialect) as peer:
        await peer.text(doubled)
        await peer.audio(SECOND)
        await peer.stop()
        assert covered(await peer.rest()) == 16_000


@fault(17, BAD_REQUEST)
async def test_an_unknown_field_is_named(arena: LocalArena) -> None:
    async with arena.peer("v2") as peer:
        await peer.start(interim_result=True)
        assert "interim_result" in (await peer.hear())["message"]
        await peer.still_works()


# Row 18: text that is no text ---------------------------------------------------------------------


NO_UTF8 = (b"\xff\xfe", b'{"type":"start\xc3', b"\xed\xa0\x80")


@fault(18, session(ErrorCode.INVALID_UTF8, end=ErrorCode.INVALID_UTF8) * len(NO_UTF8))
@both
async def test_text_that_is_not_utf8_is_closed_with_1007(arena: LocalArena, dialect: str) -> None:
    for data in NO_UTF8:
        async with arena.socket(dialect) as peer:
            await peer.start()
            await peer.socket.send_frame(data, aiohttp.WSMsgType.TEXT)
            await peer.rest()


@fault(18, BAD_REQUEST * len(NO_UTF8))
async def test_a_string_that_is_not_utf8_is_no_message_over_grpc(arena: LocalArena) -> None:
    for data in NO_UTF8:
        flush = b"\x0a" + _varint(len(data)) + data
        async with arena.call() as peer:
            await peer.frame(b"\x1a" + _varint(len(flush)) + flush)
            assert (await peer.hear())["code"] == "bad_request"
            await peer.still_works()
