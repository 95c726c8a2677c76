"""A lease renewed by a message, with a store of used tokens in this process or behind a network."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from streamer.access import Authenticator, KeyRing, Lease, Verifier
from streamer.access.replay_store import InMemoryReplayStore
from streamer.connection.token_renewal import renew
from streamer.errors import ErrorCode
from streamer.session.actions import Action, Emit
from streamer.session.events import ErrorEvent
from tests.access.makers import NOW, carried, reader, token


class Distant(InMemoryReplayStore):
    """A store that answers later."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()

    def use(self, token_id: str, expires_at: float, now: float) -> Awaitable[None]:  # type: ignore[override]
        return self._use(token_id, expires_at, now)

    async def _use(self, token_id: str, expires_at: float, now: float) -> None:
        await self.answer.wait()
        super().use(token_id, expires_at, now)


async def leased(used: InMemoryReplayStore) -> Lease:
    door = Authenticator(Verifier(KeyRing(), reader(), used), lambda: NOW)
    lease = door.new_lease(await door.verify(carried(token())), now=5.0)
    assert lease is not None
    return lease


class Session:
    """Keeps the refusals that enter later."""

    def __init__(self) -> None:
        self.entered: list[Action] = []

    def enter(self, step: Callable[[float], Sequence[Action]]) -> None:
        self.entered.extend(step(0.0))


def codes(actions: Sequence[Action]) -> list[ErrorCode]:
    return [each.event.code for each in actions if isinstance(each, Emit) and isinstance(each.event, ErrorEvent)]


async def test_a_store_in_this_process_answers_at_once() -> None:
    lease, session = await leased(InMemoryReplayStore()), Session()
    once = token(once=True, exp=int(NOW) + 300)
    assert renew(lease, once, 35.0, session.enter) == ()
    assert lease.expires_at == 335.0
    assert codes(renew(lease, once, 36.0, session.enter)) == [ErrorCode.TOKEN_REPLAYED]
    assert lease.expires_at == 335.0
    assert not session.entered


async def test_a_distant_store_extends_the_lease_or_refuses_when_it_answers() -> None:
    used = Distant()
    lease, session = await leased(used), Session()
    once = token(once=True, exp=int(NOW) + 300)
    for now in (35.0, 36.0):
        assert renew(lease, once, now, session.enter) == ()
    assert lease.expires_at == 65.0
    used.answer.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert lease.expires_at == 335.0
    assert codes(session.entered) == [ErrorCode.TOKEN_REPLAYED]


@pytest.mark.parametrize("wrong", ["nonsense", token(sub="bob")])
async def test_what_needs_no_store_is_refused_at_once(wrong: str) -> None:
    lease, session = await leased(Distant()), Session()
    assert codes(renew(lease, wrong, 35.0, session.enter)) in ([ErrorCode.UNAUTHENTICATED], [ErrorCode.FORBIDDEN])
    assert lease.expires_at == 65.0


async def test_without_authentication_there_is_nothing_to_renew() -> None:
    assert renew(None, "anything", 35.0, Session().enter) == ()
