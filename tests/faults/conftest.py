"""One server for a module; around each fault all that is to be seen of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.arena import LocalArena
from tests.faults.servers import serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    async with serving() as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(server: LocalArena, request: pytest.FixtureRequest) -> AsyncIterator[LocalArena]:
    """A server, observed around a fault."""
    async with server.observed(request.node):
        yield server
