"""Row 31 of the fault table, where refusals come after the upgrade, and a first message may say who it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from tests.faults.arena import LocalArena
from tests.faults.fault import Fault, fault, harmless, refusal
from tests.faults.gates import CARRIERS, FOREIGN, NOTHING, WRONG, Carrier, asking, token
from tests.faults.peers import SECOND, START, TRANSPORTS, covered

pytestmark = pytest.mark.asyncio(loop_scope="module")

on_sockets = pytest.mark.parametrize(
    "carry", [carrier for carrier in CARRIERS.values() if carrier.way == "v2"], ids=["header", "subprotocol", "query"]
)
both = pytest.mark.parametrize("way", TRANSPORTS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalArena]:
    """Refuses over the WebSocket, and takes a first message."""
    async with asking(tmp_path_factory.mktemp("access"), first_message=True, refuse_after_upgrade=True) as arena:
        yield arena


def turned_away(code: ErrorCode, way: str = "v2") -> Fault:
    """An error event and a close over WebSocket, a status over gRPC."""
    return refusal(code) + Fault(told=() if way == "grpc" else (code,), ends=(code,))


async def closed(arena: LocalArena, way: str, code: ErrorCode, options: Mapping[str, Any], *words: Any) -> None:
    """What was opened is ended with the code."""
    async with arena.peer(way, **options) as peer:
        for word in words:
            await peer.say(word)
        await peer.rest()
        assert peer.end == code


def auth(secret: str) -> dict[str, str]:
    return {"type": "auth", "token": secret}


@fault(31, harmless())
@both
async def test_a_first_message_with_a_good_token_streams(arena: LocalArena, way: str) -> None:
    async with arena.peer(way, **NOTHING) as peer:
        await peer.say(auth(token()))
        await peer.still_works()


@fault(31, harmless())
async def test_a_start_with_a_token_streams_over_grpc(arena: LocalArena) -> None:
    async with arena.call(**NOTHING) as peer:
        await peer.start(token=token())
        await peer.audio()
        await peer.stop()
        assert covered(await peer.rest()) == len(SECOND) // 2


DO_NOT_DO = {
    "wrong": (token(WRONG), ErrorCode.UNAUTHENTICATED),
    "no token": ("sk_wrong", ErrorCode.UNAUTHENTICATED),
    "expired": (token(age=61), ErrorCode.TOKEN_EXPIRED),
}


@fault(31, lambda case: turned_away(DO_NOT_DO[case["name"]][1], case["way"]))
@both
@pytest.mark.parametrize("name", DO_NOT_DO)
async def test_a_first_message_that_does_not_do(arena: LocalArena, way: str, name: str) -> None:
    secret, code = DO_NOT_DO[name]
    await closed(arena, way, code, NOTHING, auth(secret))


@fault(31, lambda case: harmless() + turned_away(ErrorCode.TOKEN_REPLAYED, case["way"]))
@both
async def test_a_replayed_first_message(arena: LocalArena, way: str) -> None:
    once = token(once=True)
    async with arena.peer(way, **NOTHING) as peer:
        await peer.say(auth(once))
        await peer.still_works()
    await closed(arena, way, ErrorCode.TOKEN_REPLAYED, NOTHING, auth(once))


@fault(31, lambda case: turned_away(ErrorCode.UNAUTHENTICATED, case["way"]))
@both
@pytest.mark.parametrize("first", [{"type": "stop"}, START["v2"]], ids=["stop", "start"])
async def test_a_first_message_that_is_no_auth(arena: LocalArena, way: str, first: dict[str, Any]) -> None:
    await closed(arena, way, ErrorCode.UNAUTHENTICATED, NOTHING, first)


@fault(31, lambda case: turned_away(ErrorCode.UNAUTHENTICATED, case["way"]))
@both
async def test_a_first_message_that_is_nonsense(arena: LocalArena, way: str) -> None:
    async with arena.peer(way, **NOTHING) as peer:
        await peer.nonsense("nonsense")
        await peer.rest()


@fault(31, lambda case: turned_away(ErrorCode.UNAUTHENTICATED, case["way"]))
@both
async def test_no_first_message_in_time(arena: LocalArena, way: str) -> None:
    await closed(arena, way, ErrorCode.UNAUTHENTICATED, NOTHING)


@fault(31, turned_away(ErrorCode.UNAUTHENTICATED) + turned_away(ErrorCode.TOKEN_EXPIRED))
@on_sockets
async def test_refusals_that_a_page_can_read(arena: LocalArena, carry: Carrier) -> None:
    await closed(arena, "v2", ErrorCode.UNAUTHENTICATED, carry(token(WRONG)))
    await closed(arena, "v2", ErrorCode.TOKEN_EXPIRED, carry(token(age=61)))


@fault(31, turned_away(ErrorCode.FORBIDDEN_ORIGIN) * 2)
async def test_a_foreign_page_can_read_that_it_is_one(arena: LocalArena) -> None:
    await closed(arena, "v2", ErrorCode.FORBIDDEN_ORIGIN, {"headers": {**arena.headers, "Origin": FOREIGN}})
    await closed(arena, "v2", ErrorCode.FORBIDDEN_ORIGIN, {"headers": {"Origin": "null"}})
