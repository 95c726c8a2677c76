"""Rows 8 to 11, 13 and 14 of the fault table: wrong frames, the wrong order, odd bytes, samples that are no audio."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamer.errors import ErrorCode
from tests.faults.arena import WEATHER, LocalArena, by_kind
from tests.faults.fault import Fault, complaint, fatal, fault, harmless, warned
from tests.faults.peers import DIALECTS, SECOND, WAYS, Peer, covered

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("dialect", DIALECTS)
every_way = pytest.mark.parametrize("way", WAYS)

BAD_REQUEST, BAD_STATE = complaint(ErrorCode.BAD_REQUEST), complaint(ErrorCode.BAD_STATE)


async def told_and_stays(peer: Peer, code: ErrorCode, *words: str) -> None:
    """A non-fatal error that says what was wrong, after which the connection still works."""
    error = await peer.hear()
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, False)
    for word in words:
        assert word in error["message"]
    await peer.still_works()


# Row 8: text where binary belongs -----------------------------------------------------------------


TEXTS = ("hello", base64.b64encode(SECOND[:300]).decode(), '"' + "A" * 400 + '"', "")


@fault(8, BAD_REQUEST * len(TEXTS))
@both
async def test_text_where_binary_belongs_is_told_so(arena: LocalArena, dialect: str) -> None:
    for text in TEXTS:
        async with arena.socket(dialect) as peer:
            await peer.text(text)
            await told_and_stays(peer, ErrorCode.BAD_REQUEST, "audio belongs in binary frames")


@fault(8, BAD_REQUEST * len(TEXTS))
async def test_what_is_no_message_over_grpc_is_told_so(arena: LocalArena) -> None:
    for text in TEXTS:
        async with arena.call() as peer:
            await peer.frame(text.encode())
            await told_and_stays(peer, ErrorCode.BAD_REQUEST)


@fault(8, complaint(ErrorCode.BAD_REQUEST, received_s=2.0))
@every_way
async def test_text_in_mid_stream_loses_no_audio(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.nonsense(base64.b64encode(SECOND[:300]).decode())
        await peer.audio(SECOND)
        await peer.stop()
        assert covered(await peer.rest()) == 32_000


@fault(8, fatal(ErrorCode.MESSAGE_TOO_BIG))
@both
async def test_more_text_than_a_control_message_may_have_is_too_big(arena: LocalArena, dialect: str) -> None:
    async with arena.socket(dialect) as peer:
        await peer.text(base64.b64encode(SECOND).decode()[: 16 * 1024 + 1])
        await peer.ended_with(ErrorCode.MESSAGE_TOO_BIG)


# Rows 9 to 11: the wrong order --------------------------------------------------------------------


@fault(9, BAD_STATE)
@every_way
async def test_audio_before_a_start_is_refused_once(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.audio(SECOND)
        await told_and_stays(peer, ErrorCode.BAD_STATE, "before start")


@fault(10, harmless(streams=2, received_s=1.5))
@every_way
async def test_a_second_start_finishes_the_first_stream(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.start()
        await peer.audio(SECOND[:16_000])
        await peer.stop()
        heard = await peer.rest()
    assert covered(heard) == 24_000
    results = [event for event in heard if "start_time" in event]
    assert [event["start_time"] for event in results].count(0.0) == 2  # the clock starts again


@fault(11, BAD_STATE)
@every_way
async def test_a_stop_before_a_start_is_refused(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.stop()
        await told_and_stays(peer, ErrorCode.BAD_STATE, "before start")


@fault(11, harmless(streams=1, received_s=1.0))
@every_way
async def test_a_second_stop_changes_nothing(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.stop()
        await peer.stop()
        assert covered(await peer.rest()) == 16_000


# Row 13: bytes cut anywhere -----------------------------------------------------------------------


@fault(13, harmless(received_s=0.125))
@every_way
async def test_one_byte_at_a_time_gives_the_same_samples(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start()
        await peer.audio(SECOND[:4_000], cut=1)
        await peer.stop()
        assert covered(await peer.rest()) == 2_000


@fault(13, harmless(segments=2))
@pytest.mark.parametrize(("way", "cut"), [("v2", 3), ("v2", 1_001), ("grpc", 101)])
async def test_odd_cuts_carry_half_samples_over(arena: LocalArena, way: str, cut: int) -> None:
    async with arena.peer(way, "segmented") as peer:
        await peer.start()
        await peer.hear("started")
        await peer.audio(WEATHER, cut=cut)
        await peer.stop()
        assert by_kind(await peer.rest()) == arena.alone


@fault(13, warned("partial_frame", received_s=1.0))
@pytest.mark.parametrize("way", ["v2", "grpc"])
async def test_a_stream_that_ends_in_half_a_sample_is_warned_and_answered(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.start()
        await peer.audio(SECOND + b"\x01")
        await peer.stop()
        heard = await peer.rest()
    assert covered(heard) == 16_000
    assert (heard[-1]["type"], heard[-1]["received"], heard[-1]["processed"]) == ("finished", 16_000, 16_000)


# Row 14: samples that are no numbers --------------------------------------------------------------


NO_AUDIO = (math.nan, math.inf, -math.inf, 1e30, -1e30)
DENORMAL = 1e-42
FLOATS: Mapping[str, Mapping[str, Any]] = {
    "v1": {"bit_depth": 32, "is_float": True},
    "v2": {"encoding": "pcm_f32le"},
    "grpc": {"encoding": "pcm_f32le"},
}


def clamped(params: Mapping[str, Any]) -> Fault:
    """v1 has no word for a warning."""
    seen = warned("audio_clamped", received_s=1.0)
    seen = seen if params["way"] != "v1" else replace(seen, told=())
    return seen * len(NO_AUDIO) + harmless(received_s=1.0)


@fault(14, clamped)
@every_way
async def test_samples_that_are_no_audio_are_silenced_or_clamped(arena: LocalArena, way: str) -> None:
    for value in (*NO_AUDIO, DENORMAL):
        async with arena.peer(way, "segmented") as peer:
            await peer.start_format(**FLOATS[way])
            await peer.audio(np.full(16_000, value, "<f4").tobytes())
            await peer.stop()
            heard = await peer.rest()
        assert not [event for event in heard if event["type"] in ("segment", "error")]
        assert way == "v1" or heard[-1]["processed"] == 16_000
