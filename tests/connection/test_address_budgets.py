"""What all connections of an address take together is bounded; those that take little are not held back for it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.app import App
from streamer.config import Settings
from streamer.connection import address_budgets
from streamer.connection.address_budgets import AUDIO_PAYS, AddressBudgets
from streamer.connection.budget import AddressBudget, AddressLimits, WorkBudget, WorkLimits
from streamer.connection.meter import Meter
from streamer.errors import ErrorCode
from streamer.testing import ManualClock
from tests.faults.raw import BINARY, frame, raw, started
from tests.transports.serving import V2_START, dialled, scripted, serving
from tests.transports.test_listener import Refusals, until

LIMITS = AddressLimits(share=0.1, burst_s=1.0, max_debt_s=2.0, spare_s=0.01)
OWN = WorkLimits(share=1.0, burst_s=100.0, max_throttled_s=1_000.0)
"""Of a connection that only its address holds back."""


def test_connections_of_an_address_pay_for_each_other() -> None:
    address = AddressBudget(LIMITS)
    address.connections = 2
    one, other = WorkBudget(OWN, address), WorkBudget(OWN, address)
    assert one.charge(1.0, now=100.0) == 0.0
    assert other.charge(0.5, now=100.0) == pytest.approx(5.0)
    assert address.wait_s(102.5) == pytest.approx(2.5)
    assert address.wait_s(105.0) == pytest.approx(0.0)


def test_a_connection_within_its_part_of_the_share_does_not_wait_for_its_neighbours() -> None:
    address = AddressBudget(LIMITS)
    address.connections = 10
    greedy, modest = WorkBudget(OWN, address), WorkBudget(OWN, address)
    now = 100.0
    for _ in range(100):
        now += 1.0
        assert modest.charge(0.9 * LIMITS.share / 10, now) == 0.0
        greedy.charge(2.0, now)
    assert greedy.charge(0.01, now) > 0
    assert not modest.is_exhausted


def test_who_is_held_back_for_its_address_for_too_long_is_exhausted() -> None:
    address = AddressBudget(LIMITS)
    address.connections = 1
    budget, now = WorkBudget(WorkLimits(share=1.0, burst_s=100.0, max_throttled_s=5.0), address), 0.0
    for _ in range(1_000):
        if budget.is_exhausted:
            break
        now += budget.charge(0.01, now)
    assert budget.is_exhausted


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 19), st.floats(0, 0.02)), max_size=200))
def test_an_address_takes_no_more_than_its_burst_its_share_and_what_each_connection_has_to_spare(
    connections: int, steps: list[tuple[int, float]]
) -> None:
    address = AddressBudget(LIMITS)
    address.connections = connections
    budgets = [WorkBudget(OWN, address) for _ in range(connections)]
    free_at = [0.0] * connections
    now = spent = 0.0
    for any_number, spends in steps:
        number = any_number % connections
        now = max(now, free_at[number])
        free_at[number] = now + budgets[number].charge(spends, now)
        spent += spends
    most = LIMITS.burst_s + 2 * LIMITS.share * now + connections * (LIMITS.spare_s + 0.02)
    assert spent <= most + 1e-6


def test_a_long_flood_is_forgiven_within_a_bound() -> None:
    address = AddressBudget(LIMITS)
    address.charge(1_000.0, now=0.0)
    assert address.wait_s(0.0) == pytest.approx(LIMITS.max_debt_s / LIMITS.share)


def test_a_network_of_ipv6_is_one_address() -> None:
    budgets = AddressBudgets(0.1, ManualClock())
    assert budgets.of("2001:db8::1") is budgets.of("2001:db8::ffff")
    assert budgets.of("2001:db8::1") is not budgets.of("2001:db8:0:1::1")


def test_addresses_that_have_paid_and_left_are_forgotten() -> None:
    clock = ManualClock()
    budgets = AddressBudgets(0.1, clock)
    with budgets.connected("10.0.0.1"):
        for number in range(1_000):
            budgets.charge(f"10.1.{number // 250}.{number % 250}", 0.001)
            clock.advance(1.0)
        assert len(budgets) < 10
        assert budgets.of("10.0.0.1") is not None


def test_the_table_is_bounded_though_every_address_owes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_budgets, "MAX_REMEMBERED", 100)
    budgets = AddressBudgets(0.1, ManualClock())
    with budgets.connected("10.0.0.1"):
        for number in range(1_000):
            budgets.charge(f"10.1.{number // 250}.{number % 250}", 10.0)
    assert len(budgets) <= 102
    assert budgets.wait_s("10.1.3.249") > 0
    assert budgets.wait_s("10.1.0.0") == 0


def test_no_share_is_no_bound() -> None:
    budgets = AddressBudgets(0.0, ManualClock())
    with budgets.connected("10.0.0.1") as budget:
        budgets.charge("10.0.0.1", math.inf)
        assert budget is None
    assert budgets.wait_s("10.0.0.1") == 0
    assert len(budgets) == 0


def test_audio_pays_for_the_opening_of_its_connection() -> None:
    budgets = AddressBudgets(0.1, ManualClock())
    for _ in range(1_000):
        budgets.charge_session("10.0.0.1", 0.02, audio_s=0.02 / AUDIO_PAYS)
    assert budgets.wait_s("10.0.0.1") == 0
    for _ in range(1_000):
        budgets.charge_session("10.0.0.1", 0.02, audio_s=0.0)
    assert budgets.wait_s("10.0.0.1") > 0


async def test_a_meter_counts_the_steps_of_a_coroutine_and_not_what_runs_while_it_waits() -> None:
    clock = ManualClock()
    clock.cpu_step = 1.0
    meter, waited = Meter(clock.cpu), asyncio.Event()

    async def work() -> str:
        await waited.wait()
        return "done"

    task = asyncio.create_task(meter.run(work()))
    await asyncio.sleep(0)
    for _ in range(100):
        clock.cpu()
    waited.set()
    assert await task == "done"
    assert meter.spent_s == 2.0


SHARE: dict[str, Any] = {"server": {"port": 0, "max_control_share_per_address": 1e-6}}


async def status(port: int) -> bytes:
    """What a plain request is answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    try:
        return (await reader.readline())[9:12]
    finally:
        writer.transport.abort()


async def test_an_address_that_owes_is_told_429_and_its_streams_go_on() -> None:
    async with serving(**SHARE) as app, raw(app.port) as healthy:
        await started(healthy)
        app._addresses.charge("127.0.0.1", 10.0)
        assert await status(app.port) == b"429"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with dialled(app):
                pass
        assert refused.value.status == 429
        for _ in range(20):
            await healthy.send(frame(BINARY, bytes(32_000)))
        await healthy.send(frame(1, b'{"type":"stop"}'))
        assert await healthy.close_code() == 1000


async def test_a_request_on_a_connection_that_is_kept_is_told_when_to_come_back() -> None:
    async with serving(**SHARE) as app, aiohttp.ClientSession() as http:
        async with http.get(app.url + "/livez") as answer:
            assert answer.status == 200
        app._addresses.charge("127.0.0.1", 10.0)
        async with http.get(app.url + "/livez") as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["code"] == "rate_limited"


@pytest.mark.parametrize("request_", [b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\0\r\n\r\n", b""])
async def test_connections_that_come_to_nothing_are_counted_until_their_address_is_refused(request_: bytes) -> None:
    async with serving(**SHARE) as app:
        while not app._addresses.wait_s("127.0.0.1"):
            _, writer = await asyncio.open_connection("127.0.0.1", app.port)
            writer.write(request_)
            writer.close()
            await writer.wait_closed()
        assert await status(app.port) == b"429"


async def test_sessions_without_audio_are_counted_and_those_with_audio_are_not() -> None:
    async with serving(**SHARE) as app:
        budget = app._addresses.of("127.0.0.1")
        assert budget is not None
        async with dialled(app, "/api/v2/simple") as socket:
            await socket.send_json(V2_START)
            for _ in range(20):
                await socket.send_bytes(bytes(32_000))
            await socket.send_json({"type": "stop"})
            async for _ in socket:
                pass
        await until(lambda: not len(app.connections))
        with_audio = budget._left_s
        async with dialled(app, "/api/v2/simple"):
            pass
        await until(lambda: budget._left_s < with_audio)


async def test_where_the_metrics_are_answered_nobody_owes() -> None:
    server = {"port": 0, "max_control_share_per_address": 1e-6, "metrics_address": "127.0.0.1:0"}
    async with serving(server=server) as app:
        app._addresses.charge("127.0.0.1", 10.0)
        assert app.metrics_port is not None
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{app.metrics_port}/readyz") as answer:
            assert answer.status == 200


async def test_refusals_are_counted_by_their_name() -> None:
    refusals = Refusals()
    settings = Settings(**SHARE)
    async with App(settings, parts=scripted(), observers=[refusals]) as app:
        app._addresses.charge("127.0.0.1", 10.0)
        assert await status(app.port) == b"429"
        assert refusals.codes == [ErrorCode.RATE_LIMITED]
