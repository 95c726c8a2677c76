"""Work that is no audio is bounded in the time it takes: short bursts pass, who goes on waits, and then is closed."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.connection.budget import WorkBudget, WorkLimits
from streamer.errors import ErrorCode
from streamer.session.settings import Limits
from tests.connection.in_memory_server import SECOND, START, InMemoryServer, send_all, turns
from tests.faults.raw import BINARY, CONTINUATION, PING, TEXT, frame, started
from tests.faults.servers import serving

LIMITS = WorkLimits(share=0.1, burst_s=1.0, max_throttled_s=5.0)


def test_a_burst_passes_and_what_is_past_it_waits_until_it_is_paid_back() -> None:
    budget = WorkBudget(LIMITS)
    assert budget.charge(1.0, now=100.0) == 0.0
    assert budget.charge(0.25, now=100.0) == pytest.approx(2.5)
    assert budget.charge(0.0, now=102.5) == pytest.approx(0.0)
    assert not budget.is_exhausted


def test_one_long_step_holds_nobody_back_and_ends_nobody() -> None:
    budget = WorkBudget(LIMITS)
    assert budget.charge(100.0, now=0.0) == 0.0
    assert not budget.is_exhausted
    assert budget.charge(0.1, now=0.0) == pytest.approx(1.0)


def test_who_goes_on_at_the_limit_is_exhausted_and_who_rests_is_forgiven() -> None:
    budget = WorkBudget(LIMITS)
    now = 0.0
    budget.charge(1.0, now)
    while not budget.is_exhausted:
        now += budget.charge(0.01, now)
    assert now > LIMITS.max_throttled_s
    budget.charge(0.0, now + 1_000)
    assert not budget.is_exhausted


@given(st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 3)), max_size=50))
def test_nobody_takes_more_than_the_burst_and_the_share_of_the_time(steps: list[tuple[float, float]]) -> None:
    budget, now, spent, last = WorkBudget(LIMITS), 0.0, 0.0, 0.0
    for spends, rests in steps:
        now += rests
        spent += spends
        last = spends
        now += budget.charge(spends, now)
    assert spent <= LIMITS.burst_s + LIMITS.share * now + last + 1e-6


SHARE = {"max_control_share": 1e-6}
"""The burst may be taken, and nothing after it: a client that goes on waits for ever, that is, is closed."""


@pytest.mark.parametrize(
    "flood",
    [
        frame(PING) * 2_000,
        frame(TEXT, b"{") * 500,
        frame(TEXT, b'{"type":"flush"}') * 500,
        frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 3_000 + frame(CONTINUATION),
    ],
    ids=["pings", "broken JSON", "flushes", "empty fragments"],
)
async def test_a_flood_is_told_that_it_was_too_much_and_closed_and_audio_never_is(flood: bytes) -> None:
    async with serving(limits={**SHARE, "idle_timeout_s": 60}) as arena, arena.raw() as peer, arena.raw() as healthy:
        await started(peer)
        await started(healthy)
        for _ in range(20):
            await healthy.send(frame(BINARY, bytes(32_000)))
        async with peer.flooding(flood, 10_000):  # reads meanwhile: a reset at last may overtake what was not read
            assert await peer.close_code(within_s=50) == 4429
        await healthy.send(frame(TEXT, b'{"type":"stop"}'))
        assert await healthy.close_code() == 1000


def stage_where_a_message_costs(cpu_s: float) -> InMemoryServer:
    stage = InMemoryServer(limits=Limits(idle_timeout_s=1_000, start_timeout_s=1_000), pipe=10_000)
    stage.clock.cpu_step = cpu_s
    return stage


async def test_control_messages_past_the_budget_wait_and_then_end_the_session_by_name() -> None:
    stage = stage_where_a_message_costs(WorkLimits().burst_s * 0.4)
    client = stage.connect()
    await client.send(START)
    heard = 0
    for _ in range(3):  # the burst, and a bit
        await client.send("{")
        await turns()
    assert len(stage.notes.events) == 1 + 2, "the last one is not read yet"
    stage.clock.advance(5.0)
    await turns()
    assert len(stage.notes.events) == 1 + 3
    while client.close_info is None:
        heard += 1
        assert heard < 100
        with suppress(ConnectionError):
            await client.send("{")
        stage.clock.advance(0.5)
        await turns()
    assert client.close_info.code is ErrorCode.RATE_LIMITED
    assert stage.notes.ends[0].code is ErrorCode.RATE_LIMITED
    await stage.over()


async def test_audio_is_not_work_of_that_kind() -> None:
    stage = stage_where_a_message_costs(10.0)
    client = stage.connect()
    stage.clock.cpu_step = 0.0
    await client.send(START)
    await turns()
    stage.clock.cpu_step = 10.0
    for _ in range(50):
        await client.send(SECOND)
        await turns()
        stage.clock.advance(1.0)
    assert client.close_info is None
    assert stage.notes.holds == 0
    client.close()
    await stage.over()


async def test_a_session_that_ends_while_its_client_waits_is_over_at_once() -> None:
    stage = stage_where_a_message_costs(5.0)
    client = stage.connect()
    await send_all(client, [START, "{"])
    await turns()
    assert stage.notes.holds == 1
    stage.manager.close_all(ErrorCode.INTERNAL, "scoring has failed")
    await turns()
    assert client.close_info is not None
    await stage.over()


async def test_what_a_message_asked_for_and_the_model_answers_later_is_paid_for_with_the_next_message() -> None:
    stage = stage_where_a_message_costs(0.0)
    client = stage.connect()
    with stage.held():
        await send_all(client, [START, SECOND, '{"type":"stop","keep_open":true}', START])
        await turns()
        stage.clock.cpu_step = 10.0
    await turns()
    stage.clock.cpu_step = 0.0
    assert stage.notes.holds == 0
    await client.send("{")  # takes the burst
    await turns()
    stage.clock.cpu_step = 0.001
    await client.send("{")
    await turns()
    assert stage.notes.holds == 1
    client.close()
    stage.clock.advance(2_000.0)
    await stage.over()
