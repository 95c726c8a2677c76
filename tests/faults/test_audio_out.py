"""Row 33 of the fault table: a model whose audio is wrong. In a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from tests.faults.beside import RemoteArena, answered, failure, remote
from tests.faults.fault import Record, fault, lost
from tests.faults.peers import TRANSPORTS

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = str(Path(__file__).with_name("talkers.py")) + ":Wrong"
WRONG = {"nan": "finite numbers", "channels": "with 1 channels, got [100,"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[RemoteArena]:
    async with remote(MODEL, session__stall_timeout_s=0) as arena:
        yield arena


@fault(33, lost(ErrorCode.MODEL_ERROR, logged=Record("failed: the model's audio", level="warning")))
@pytest.mark.parametrize("way", TRANSPORTS)
@pytest.mark.parametrize("act", sorted(WRONG))
async def test_audio_that_is_wrong_costs_its_segment_and_says_what_is_wrong(
    arena: RemoteArena, way: str, act: str
) -> None:
    error = failure(await answered(arena, way, act=act, at=0))
    assert "the model's audio" in error["message"]
    assert WRONG[act] in error["message"]
