"""Rows 8 to 18 of the fault table: what a client says wrongly, through a real socket."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.faults.arena import DIALECTS, SECOND, START, WEATHER, Arena, Peer, by_kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("dialect", DIALECTS)


async def error_and_stays(peer: Peer, code: str, *words: str) -> None:
    """A non-fatal error that says what was wrong, after which the connection still works."""
    error = await peer.hear()
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
    for word in words:
        assert word in error["message"]
    await peer.still_works()


# Row 8: text where binary belongs -----------------------------------------------------------------


@both
@pytest.mark.parametrize("text", ["hello", base64.b64encode(SECOND[:300]).decode(), '"' + "A" * 400 + '"', ""])
async def test_text_where_binary_belongs_is_told_so(arena: Arena, dialect: str, text: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.text(text)
        await error_and_stays(peer, "bad_request", "audio belongs in binary frames")


@both
async def test_text_in_mid_stream_loses_no_audio(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.text(base64.b64encode(SECOND[:300]).decode())
        await peer.audio(SECOND)
        await peer.stop()
        heard = await peer.rest()
    assert [event["code"] for event in heard if event["type"] == "error"] == ["bad_request"]
    assert _counted(heard) == 32_000
    assert peer.socket.close_code == 1000


@both
async def test_more_text_than_a_control_message_may_have_is_too_big(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.text(base64.b64encode(SECOND).decode()[: 16 * 1024 + 1])
        await peer.closed_after_error("message_too_big", 1009)


# Rows 9 to 12: the wrong order, or nothing at all -------------------------------------------------


@both
async def test_audio_before_a_start_is_refused_once(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.audio(SECOND)
        await error_and_stays(peer, "bad_state", "before any start")


@both
async def test_a_second_start_finishes_the_first_stream(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.start()
        await peer.audio(SECOND[:16_000])
        await peer.stop()
        heard = await peer.rest()
    assert _counted(heard) == 24_000
    assert not [event for event in heard if event["type"] == "error"]
    results = [event for event in heard if "start_time" in event]
    assert [event["start_time"] for event in results].count(0.0) == 2  # the clock starts again
    assert peer.socket.close_code == 1000


@both
async def test_a_stop_before_a_start_is_refused(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.stop()
        await error_and_stays(peer, "bad_state", "before any start")


@both
async def test_a_second_stop_changes_nothing(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.stop()
        await peer.stop()
        heard = await peer.rest()
    assert _counted(heard) == 16_000
    assert not [event for event in heard if event["type"] == "error"]
    assert peer.socket.close_code == 1000


# Row 13: bytes cut anywhere -----------------------------------------------------------------------


@both
async def test_one_byte_at_a_time_gives_the_same_samples(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start()
        await peer.audio(WEATHER[:4_000], cut=1)
        await peer.stop()
        assert _counted(await peer.rest()) == 2_000


@pytest.mark.parametrize("cut", [3, 7, 1_001])
async def test_odd_cuts_carry_half_samples_over(arena: Arena, cut: int) -> None:
    async with arena.peer("v2", "segmented") as peer:
        await peer.start()
        await peer.audio(WEATHER, cut=cut)
        await peer.stop()
        heard = await peer.rest()
    assert by_kind(heard) == arena.alone


async def test_a_stream_that_ends_in_half_a_sample_is_warned_and_answered(arena: Arena) -> None:
    async with arena.peer("v2") as peer:
        await peer.start()
        await peer.audio(SECOND + b"\x01")
        await peer.stop()
        heard = await peer.rest()
    assert [event["code"] for event in heard if event["type"] == "warning"] == ["partial_frame"]
    assert _counted(heard) == 16_000
    assert (heard[-1]["type"], heard[-1]["received"], heard[-1]["processed"]) == ("finished", 16_000, 16_000)


# Row 14: samples that are no numbers --------------------------------------------------------------


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e-42, 1e30, -1e30])
async def test_samples_that_are_no_audio_are_silenced_or_clamped(arena: Arena, dialect: str, value: float) -> None:
    async with arena.peer(dialect, "segmented") as peer:
        if dialect == "v1":
            await peer.start_format(bit_depth=32, is_float=True)
        else:
            await peer.start_format(encoding="pcm_f32le")
        await peer.audio(np.full(16_000, value, "<f4").tobytes())
        await peer.stop()
        heard = await peer.rest()
    assert not [event for event in heard if event["type"] == "error"]
    assert peer.socket.close_code == 1000
    if dialect == "v2":
        warned = [event["code"] for event in heard if event["type"] == "warning"]
        assert warned == ([] if abs(value) < 1 else ["audio_clamped"])
        assert heard[-1]["processed"] == 16_000


# Rows 15 and 16: formats that cannot be served ----------------------------------------------------


@both
@pytest.mark.parametrize("channels", [0, -1, 1.5, True, 10**9, 9, "1", None, 10**40])
async def test_channels_that_cannot_be_served(arena: Arena, dialect: str, channels: Any) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start_format(channels=channels)
        error = await peer.closed_after_error("invalid_format", 4400)
        assert "channels" in error["message"]


@both
@pytest.mark.parametrize("rate", [0, 1, 10**9, 3_999, 192_001, -16_000, 16_000.5, False, "16000"])
async def test_sample_rates_that_cannot_be_served(arena: Arena, dialect: str, rate: Any) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start_format(sample_rate=rate)
        error = await peer.closed_after_error("invalid_format", 4400)
        assert "sample_rate" in error["message"]


# Row 17: JSON -------------------------------------------------------------------------------------

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


@both
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
async def test_json_that_is_not_of_the_protocol_is_told_and_the_connection_stays(
    arena: Arena, dialect: str, text: str
) -> None:
    async with arena.peer(dialect) as peer:
        await peer.text(text)
        error = await peer.hear()
        assert (error["type"], error["code"]) in {("error", "bad_request"), ("error", "invalid_format")}
        assert len(error["message"]) < 300
        if not error["fatal"]:
            await peer.still_works()


@both
async def test_json_a_hundred_thousand_levels_deep_is_too_big(arena: Arena, dialect: str) -> None:
    async with arena.peer(dialect) as peer:
        deep = '{"type":"start","request":"start","options":' + "[" * 25_000 + "]" * 25_000 + "}"
        await peer.text(deep)
        await peer.closed_after_error("message_too_big", 1009)


@both
async def test_of_a_key_that_comes_twice_the_last_counts(arena: Arena, dialect: str) -> None:
    start = json.dumps(START[dialect])
    doubled = start.replace('"sample_rate": 16000', '"sample_rate": 1, "sample_rate": 16000')
    assert doubled != start
    async with arena.peer(dialect) as peer:
        await peer.text(doubled)
        await peer.audio(SECOND)
        await peer.stop()
        assert _counted(await peer.rest()) == 16_000


async def test_an_unknown_field_is_named(arena: Arena) -> None:
    async with arena.peer("v2") as peer:
        await peer.start(interim_result=True)
        await error_and_stays(peer, "bad_request", "interim_result")


# Row 18: text that is no text ---------------------------------------------------------------------


@both
@pytest.mark.parametrize("data", [b"\xff\xfe", b'{"type":"start\xc3', b"\xed\xa0\x80"])
async def test_text_that_is_not_utf8_is_closed_with_1007(arena: Arena, dialect: str, data: bytes) -> None:
    async with arena.peer(dialect) as peer:
        await peer.start()
        await peer.socket.send_frame(data, aiohttp.WSMsgType.TEXT)
        await peer.rest()
        assert peer.socket.close_code == 1007


def _counted(heard: list[dict[str, Any]]) -> int:
    """Samples that results say they cover."""
    return sum(event.get("count") or event["output"]["count"] for event in heard if "start_time" in event)
