"""One server for a module; a count of everything around each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from tests.faults.arena import Arena


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Arena]:
    settings = Settings(
        server={"port": 0},
        model={"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0},
    )
    async with App(settings) as app:
        arena = Arena(app)
        async with arena.healthy_session():  # what a session hears when it is alone
            pass
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(server: Arena) -> AsyncIterator[Arena]:
    """Around each fault: a healthy session that must not notice, and nothing left behind."""
    before = await server.settled()
    async with server.healthy_session():
        yield server
    await server.counts_back_at(before)
