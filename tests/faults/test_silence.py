"""Row 12 of the fault table: a client that says nothing, on a server that does not wait long."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from tests.faults.arena import DIALECTS, SECOND, Arena

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Arena]:
    limits = {"start_timeout_s": 0.3, "idle_timeout_s": 0.3}
    model = {"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0}
    async with App(Settings(server={"port": 0}, limits=limits, model=model)) as app:
        yield Arena(app)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_start_in_time(server: Arena, dialect: str) -> None:
    before = await server.settled()
    async with server.peer(dialect) as peer:
        error = await peer.closed_after_error("start_timeout", 4408)
        assert error["retryable"]
    await server.counts_back_at(before)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_nothing_for_too_long_after_a_start(server: Arena, dialect: str) -> None:
    before = await server.settled()
    async with server.peer(dialect) as peer:
        await peer.start()
        await peer.audio(SECOND)
        await peer.closed_after_error("idle_timeout", 4408)
    await server.counts_back_at(before)
