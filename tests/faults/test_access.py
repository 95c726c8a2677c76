"""Row 31 of the fault table: a token missing, wrong, expired, replayed; a foreign origin; each by every carrier."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from streamer.access import new_key, new_secret, subprotocol_for
from streamer.access.tokens import parse_secrets
from streamer.app import App
from streamer.config import Settings
from streamer.errors import ErrorCode
from tests.access.makers import token as minted
from tests.faults.arena import DIALECTS, SECOND, Arena, Peer
from tests.faults.ends import series

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY, KEPT = new_key("neighbour")
SECRET_LINE = new_secret()
SECRET = parse_secrets(SECRET_LINE)[0]
WRONG = b"w" * 32
PAGE = "https://app.example.org"
MODEL = {"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0}


def token(secret: bytes = SECRET, *, ttl: float = 60, age: float = 0, **claims: Any) -> str:
    now = time.time() - age
    return minted(secret, iat=now, exp=now + ttl, **claims)


class AccessArena(Arena):
    """A server that asks who connects; its neighbour has a key."""

    def __init__(self, app: App) -> None:
        super().__init__(app, {"Authorization": f"Bearer {KEY}"})

    def refusals(self) -> Counter[str]:
        """How often who was refused for what, as /metrics says it."""
        registry = self.app.registry
        return series(registry, "auth_failures", "reason") + series(registry, "admission_rejected", "reason")


@asynccontextmanager
async def asking(folder: Path, **access: Any) -> AsyncIterator[AccessArena]:
    secrets = folder / "secrets"
    secrets.write_text(SECRET_LINE)
    settings = Settings(
        server={"port": 0, "handshake_timeout_s": 0.5},
        model=MODEL,
        access={"keys": [str(KEPT)], "token_secrets_file": str(secrets), "origins": [PAGE], **access},
    )
    async with App(settings) as app:
        yield AccessArena(app)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def before(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AccessArena]:
    """Refuses over HTTP, before the upgrade."""
    async with asking(tmp_path_factory.mktemp("before")) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def after(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AccessArena]:
    """Refuses over the WebSocket, and takes a first message."""
    folder = tmp_path_factory.mktemp("after")
    async with asking(folder, first_message=True, refuse_after_upgrade=True) as arena:
        yield arena


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(record.getMessage() + str(record.args) for record in caplog.records)


Carry = Callable[[str], dict[str, Any]]
HANDSHAKE_CARRIERS: dict[str, Carry] = {
    "header": lambda secret: {"headers": {"Authorization": f"Bearer {secret}"}},
    "subprotocol": lambda secret: {"headers": {}, "protocols": ("streamer.v2", subprotocol_for(secret))},
    "query": lambda secret: {"headers": {}, "query": f"?access_token={quote(secret)}"},
}
NOTHING: dict[str, Any] = {"headers": {}}

by_each_carrier = pytest.mark.parametrize("carry", HANDSHAKE_CARRIERS.values(), ids=HANDSHAKE_CARRIERS.keys())


@asynccontextmanager
async def around(arena: AccessArena) -> AsyncIterator[None]:
    """A neighbour that must not notice, and nothing left behind."""
    counted = await arena.settled()
    async with arena.healthy_session():
        yield
    await arena.counts_back_at(counted)


async def refused(arena: AccessArena, status: int, code: ErrorCode, options: dict[str, Any]) -> None:
    """The handshake is answered with this status, the body says why, and it is counted once."""
    before = arena.refusals()
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with arena.peer("v2", **options):
            pass
    assert raised.value.status == status
    assert arena.refusals() - before == {code: 1}


async def closed(arena: AccessArena, number: int, code: ErrorCode, options: dict[str, Any], *texts: str) -> None:
    """The WebSocket opens, an error event says why, and the close carries the code."""
    before = arena.refusals()
    async with arena.peer("v2", **options) as peer:
        for text in texts:
            await peer.text(text)
        await peer.closed_after_error(code, number)
    assert arena.refusals() - before == {code: 1}


# Over HTTP ----------------------------------------------------------------------------------------


@by_each_carrier
async def test_a_good_token_streams(before: AccessArena, carry: Carry) -> None:
    async with around(before), before.peer("v2", **carry(token(once=True))) as peer:
        assert peer.socket.protocol in (None, "streamer.v2")  # never the token
        await peer.still_works()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_key_streams_in_both_dialects(before: AccessArena, dialect: str) -> None:
    async with around(before), before.peer(dialect) as peer:
        await peer.still_works()


async def test_no_token(before: AccessArena) -> None:
    async with around(before):
        await refused(before, 401, ErrorCode.UNAUTHENTICATED, NOTHING)


@by_each_carrier
async def test_a_wrong_token(before: AccessArena, carry: Carry, logged: Callable[[], str]) -> None:
    async with around(before):
        for wrong in (token(WRONG), "sk_wrong", "nonsense", ""):
            await refused(before, 401, ErrorCode.UNAUTHENTICATED, carry(wrong))
            assert not wrong or wrong not in logged()


@by_each_carrier
async def test_an_expired_token(before: AccessArena, carry: Carry) -> None:
    async with around(before):
        await refused(before, 401, ErrorCode.TOKEN_EXPIRED, carry(token(age=61, once=True)))


@by_each_carrier
async def test_a_replayed_token(before: AccessArena, carry: Carry, logged: Callable[[], str]) -> None:
    once = token(once=True)
    async with around(before):
        async with before.peer("v2", **carry(once)) as peer:
            await peer.still_works()
        await refused(before, 401, ErrorCode.TOKEN_REPLAYED, carry(once))
    assert once not in logged()
    assert subprotocol_for(once) not in logged()


async def test_a_token_that_works_often_may_not_travel_in_the_address(before: AccessArena) -> None:
    await refused(before, 403, ErrorCode.FORBIDDEN, HANDSHAKE_CARRIERS["query"](token()))
    await refused(before, 403, ErrorCode.FORBIDDEN, HANDSHAKE_CARRIERS["query"](KEY))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_token_without_a_subprotocol_to_echo(
    before: AccessArena, dialect: str, logged: Callable[[], str]
) -> None:
    offered = subprotocol_for(token())
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with before.peer(dialect, headers={}, protocols=(offered,)):
            pass
    assert raised.value.status == 400
    assert offered not in logged()


async def test_a_foreign_origin_whatever_its_token(before: AccessArena) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    async with around(before):
        foreign = {"headers": headers | {"Origin": "https://evil.example"}}
        await refused(before, 403, ErrorCode.FORBIDDEN_ORIGIN, foreign)
        async with before.peer("v2", headers=headers | {"Origin": PAGE}) as peer:
            await peer.still_works()


async def test_a_refusal_says_why_and_holds_no_token(before: AccessArena) -> None:
    url, wrong = f"{before.app.url}/api/v2/simple", token(WRONG)
    headers = {"Authorization": f"Bearer {wrong}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        body = await response.text()
    assert response.status == 401
    assert '"code":"unauthenticated"' in body
    assert wrong not in body


async def test_what_probes_ask_needs_no_token(before: AccessArena) -> None:
    async with aiohttp.ClientSession() as http:
        for path in ("/livez", "/readyz", "/api/v1/health"):
            async with http.get(before.app.url + path) as response:
                assert response.status == 200


# Over the WebSocket -------------------------------------------------------------------------------


def auth(secret: str) -> str:
    return f'{{"type":"auth","token":"{secret}"}}'


async def test_a_first_message_with_a_good_token_streams(after: AccessArena) -> None:
    async with around(after), after.peer("v2", **NOTHING) as peer:
        await peer.text(auth(token()))
        await peer.still_works()


@pytest.mark.parametrize(
    ("secret", "code"),
    [
        (token(WRONG), ErrorCode.UNAUTHENTICATED),
        ("sk_wrong", ErrorCode.UNAUTHENTICATED),
        (token(age=61), ErrorCode.TOKEN_EXPIRED),
    ],
)
async def test_a_first_message_that_does_not_do(after: AccessArena, secret: str, code: ErrorCode) -> None:
    async with around(after):
        await closed(after, 4401, code, NOTHING, auth(secret))


async def test_a_replayed_first_message(after: AccessArena) -> None:
    once = token(once=True)
    async with around(after):
        async with after.peer("v2", **NOTHING) as peer:
            await peer.text(auth(once))
            await peer.still_works()
        await closed(after, 4401, ErrorCode.TOKEN_REPLAYED, NOTHING, auth(once))


@pytest.mark.parametrize("first", ['{"type":"stop"}', "nonsense", '{"type":"auth"}'])
async def test_a_first_message_that_is_no_auth(after: AccessArena, first: str) -> None:
    async with around(after):
        await closed(after, 4401, ErrorCode.UNAUTHENTICATED, NOTHING, first)


async def test_no_first_message_in_time(after: AccessArena) -> None:
    async with around(after):
        await closed(after, 4401, ErrorCode.UNAUTHENTICATED, NOTHING)


@by_each_carrier
async def test_refusals_that_a_page_can_read(after: AccessArena, carry: Carry) -> None:
    async with around(after):
        await closed(after, 4401, ErrorCode.UNAUTHENTICATED, carry(token(WRONG)))
        await closed(after, 4401, ErrorCode.TOKEN_EXPIRED, carry(token(age=61)))


async def test_a_foreign_page_can_read_that_it_is_one(after: AccessArena) -> None:
    async with around(after):
        foreign = {"headers": after.headers | {"Origin": "https://evil.example"}}
        await closed(after, 4403, ErrorCode.FORBIDDEN_ORIGIN, foreign)
        await closed(after, 4403, ErrorCode.FORBIDDEN_ORIGIN, {"headers": {"Origin": "null"}})


# In mid-stream ------------------------------------------------------------------------------------


async def streaming(peer: Peer) -> None:
    await peer.start()
    await peer.audio(SECOND)


async def test_a_token_that_expires_in_mid_stream_ends_it(before: AccessArena) -> None:
    async with around(before), before.peer("v2", headers={"Authorization": f"Bearer {token(ttl=1)}"}) as peer:
        await streaming(peer)
        error = await peer.closed_after_error(ErrorCode.TOKEN_EXPIRED, 4401)
        assert error["retryable"]


async def test_a_newer_token_goes_on_where_the_old_one_ends(before: AccessArena) -> None:
    async with around(before), before.peer("v2", headers={"Authorization": f"Bearer {token(ttl=1)}"}) as peer:
        await streaming(peer)
        await peer.text(auth(token(sub="bob")))
        while (error := await peer.hear())["type"] != "error":
            pass
        assert (error["code"], error["fatal"]) == ("forbidden", False)
        await peer.text(auth(token()))
        await asyncio.sleep(1.1)
        await peer.audio(SECOND)
        await peer.stop()
        finished = (await peer.rest())[-1]
        assert (finished["type"], finished["processed"]) == ("finished", 32_000)


async def test_a_token_bounds_its_stream_and_its_sessions(before: AccessArena) -> None:
    headers = {"Authorization": f"Bearer {token(sub='carol', max_sessions=1, max_stream_s=1)}"}
    async with around(before):
        async with before.peer("v2", headers=headers) as peer:
            await peer.still_works()
        async with before.peer("v2", headers=headers) as peer:
            await refused(before, 429, ErrorCode.RATE_LIMITED, {"headers": headers})
            await peer.start()
            await peer.audio(SECOND + SECOND[:2])
            await peer.closed_after_error(ErrorCode.STREAM_TOO_LONG, 4413)
