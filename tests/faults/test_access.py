"""Row 31 of the fault table: a token missing, wrong, expired, replayed, foreign; a foreign origin; by every carrier."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest
import pytest_asyncio

from streamer.access import subprotocol_for
from streamer.errors import ErrorCode
from tests.faults.arena import LocalArena
from tests.faults.fault import Fault, complaint, fatal, fault, harmless, refusal
from tests.faults.gates import CARRIERS, FOREIGN, KEY, NOTHING, PAGE, WRONG, Carrier, asking, bearer, token
from tests.faults.peers import DIALECTS, SECOND, TRANSPORTS, WAYS, Peer

pytestmark = pytest.mark.asyncio(loop_scope="module")

by_each_carrier = pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS.keys())
both = pytest.mark.parametrize("way", TRANSPORTS)
SOON_S = 3.0
"""Until a token expires that was good when its session began."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalArena]:
    """Refuses over HTTP, before the upgrade."""
    async with asking(tmp_path_factory.mktemp("access")) as arena:
        yield arena


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(record.getMessage() + str(record.args) for record in caplog.records)


# Before anything begins ---------------------------------------------------------------------------


@fault(31, harmless())
@by_each_carrier
async def test_a_good_token_streams(arena: LocalArena, carry: Carrier) -> None:
    async with arena.peer(carry.way, **carry(token(once=True))) as peer:
        assert carry.way == "grpc" or peer.socket.protocol in (None, "streamer.v2")  # never the token
        await peer.still_works()


@fault(31, harmless())
@pytest.mark.parametrize("way", WAYS)
async def test_a_key_streams(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        await peer.still_works()


@fault(31, refusal(ErrorCode.UNAUTHENTICATED))
@both
async def test_no_token(arena: LocalArena, way: str) -> None:
    await arena.refuses(way, ErrorCode.UNAUTHENTICATED, 401, **NOTHING)


@fault(31, refusal(ErrorCode.UNAUTHENTICATED, 4))
@by_each_carrier
async def test_a_wrong_token(arena: LocalArena, carry: Carrier, logged: Callable[[], str]) -> None:
    for wrong in (token(WRONG), "sk_wrong", "nonsense", ""):
        await arena.refuses(carry.way, ErrorCode.UNAUTHENTICATED, 401, **carry(wrong))
        assert not wrong or wrong not in logged()


@fault(31, refusal(ErrorCode.TOKEN_EXPIRED))
@by_each_carrier
async def test_an_expired_token(arena: LocalArena, carry: Carrier) -> None:
    await arena.refuses(carry.way, ErrorCode.TOKEN_EXPIRED, 401, **carry(token(age=61, once=True)))


@fault(31, harmless() + refusal(ErrorCode.TOKEN_REPLAYED))
@by_each_carrier
async def test_a_replayed_token(arena: LocalArena, carry: Carrier, logged: Callable[[], str]) -> None:
    once = token(once=True)
    async with arena.peer(carry.way, **carry(once)) as peer:
        await peer.still_works()
    await arena.refuses(carry.way, ErrorCode.TOKEN_REPLAYED, 401, **carry(once))
    assert once not in logged()
    assert subprotocol_for(once) not in logged()


@fault(31, harmless() + refusal(ErrorCode.TOKEN_REPLAYED, 2))
async def test_a_token_used_over_one_transport_is_used_for_the_other(arena: LocalArena) -> None:
    once = token(once=True)
    async with arena.call(headers=bearer(once)) as peer:
        await peer.still_works()
    for way in TRANSPORTS:
        await arena.refuses(way, ErrorCode.TOKEN_REPLAYED, 401, headers=bearer(once))


@fault(31, refusal(ErrorCode.FORBIDDEN, 2))
async def test_a_token_that_works_often_may_not_travel_in_the_address(arena: LocalArena) -> None:
    for secret in (token(), KEY):
        await arena.refuses("v2", ErrorCode.FORBIDDEN, 403, **CARRIERS["query"](secret))


@fault(31, refusal(ErrorCode.BAD_REQUEST))
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_token_without_a_subprotocol_to_echo(
    arena: LocalArena, dialect: str, logged: Callable[[], str]
) -> None:
    offered = subprotocol_for(token())
    await arena.refuses(dialect, ErrorCode.BAD_REQUEST, 400, headers={}, protocols=(offered,))
    assert offered not in logged()


@fault(31, refusal(ErrorCode.FORBIDDEN_ORIGIN) + harmless())
async def test_a_foreign_origin_whatever_its_token(arena: LocalArena) -> None:
    headers = bearer(token())
    await arena.refuses("v2", ErrorCode.FORBIDDEN_ORIGIN, 403, headers=headers | {"Origin": FOREIGN})
    async with arena.socket("v2", headers=headers | {"Origin": PAGE}) as peer:
        await peer.still_works()


@fault(31, refusal(ErrorCode.UNAUTHENTICATED))
async def test_a_refusal_says_why_and_holds_no_token(arena: LocalArena) -> None:
    url, wrong = f"{arena.app.url}/api/v2/simple", token(WRONG)
    async with aiohttp.ClientSession() as http, http.get(url, headers=bearer(wrong)) as response:
        body = await response.text()
    assert response.status == 401
    assert '"code":"unauthenticated"' in body
    assert wrong not in body


@fault(31, Fault())
async def test_what_probes_ask_needs_no_token(arena: LocalArena) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/livez", "/readyz", "/api/v1/health"):
            async with http.get(arena.app.url + path) as response:
                assert response.status == 200


# In mid-stream ------------------------------------------------------------------------------------


async def streaming(peer: Peer) -> None:
    await peer.start()
    await peer.audio(SECOND)


@fault(31, fatal(ErrorCode.TOKEN_EXPIRED, received_s=1.0))
@both
async def test_a_token_that_expires_in_mid_stream_ends_it(arena: LocalArena, way: str) -> None:
    async with arena.peer(way, headers=bearer(token(ttl=SOON_S))) as peer:
        await streaming(peer)
        assert (await peer.ended_with(ErrorCode.TOKEN_EXPIRED))["retryable"]


REFUSED_TWICE = complaint(ErrorCode.FORBIDDEN, ErrorCode.UNAUTHENTICATED, received_s=2.0)


@fault(31, REFUSED_TWICE)
@both
async def test_a_newer_token_of_the_same_subject_goes_on_where_the_old_one_ends(arena: LocalArena, way: str) -> None:
    ends = time.time() + SOON_S
    async with arena.peer(way, headers=bearer(token(ttl=SOON_S))) as peer:
        await streaming(peer)
        for secret, code in ((token(sub="bob"), "forbidden"), (token(WRONG), "unauthenticated")):
            await peer.say({"type": "auth", "token": secret})
            error = await peer.hear("error")
            assert (error["code"], error["fatal"]) == (code, False)
        await peer.say({"type": "auth", "token": token()})
        while time.time() <= ends:
            await asyncio.sleep(0.05)
        await peer.audio(SECOND)
        await peer.stop()
        finished = (await peer.rest())[-1]
        assert (finished["type"], finished["processed"]) == ("finished", 32_000)


@fault(31, harmless() + refusal(ErrorCode.RATE_LIMITED, 2) + fatal(ErrorCode.STREAM_TOO_LONG))
@both
async def test_a_token_bounds_its_stream_and_its_sessions(arena: LocalArena, way: str) -> None:
    headers = bearer(token(sub="carol", max_sessions=1, max_stream_s=1))
    async with arena.peer(way, headers=headers) as peer:
        await peer.still_works()
    await arena.until_only_the_neighbour_is_left()
    async with arena.peer(way, headers=headers) as peer:
        for other in TRANSPORTS:
            await arena.refuses(other, ErrorCode.RATE_LIMITED, 429, headers=headers)
        await peer.start()
        await peer.audio(SECOND + SECOND[:2])
        await peer.ended_with(ErrorCode.STREAM_TOO_LONG)
