"""Row 20 of the fault table on a real link: a peer in a network namespace whose cable is pulled in mid-stream."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from streamer.telemetry.metrics import GONE
from tests.faults.arena import LocalArena
from tests.faults.cable import HERE, THERE, Cable, cable
from tests.faults.fault import CLOSED, fault, session
from tests.faults.peers import TRANSPORTS
from tests.faults.servers import IDLE_S, impatient

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAINT = str(Path(__file__).with_name("faint.py"))


@pytest.fixture
def link() -> Iterator[Cable]:
    try:
        with cable() as made:
            yield made
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    async with impatient(host="0.0.0.0", keepalive_s=1.0, keepalive_timeout_s=1.0) as arena:
        yield arena


def connected() -> list[str]:
    """Connections of this process to the other end, by their state."""
    return [one.status for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.ip.endswith(THERE)]


SILENT, UNANSWERED = session(ErrorCode.IDLE_TIMEOUT, peer=THERE), session(GONE, peer=THERE)
"""Over gRPC pings of its own go without an answer, before `idle_timeout` is over."""


@fault(20, lambda case: UNANSWERED if case["way"] == "grpc" else SILENT)
@pytest.mark.parametrize("way", TRANSPORTS)
async def test_a_peer_whose_cable_is_pulled_is_given_up_and_so_is_its_connection(
    link: Cable, arena: LocalArena, way: str
) -> None:
    scheme, path = ("http", "/api/v2/simple") if way == "v2" else ("grpc", "")
    url = f"{scheme}://{HERE}:{arena.port_of(way)}{path}"
    client = await asyncio.create_subprocess_exec(
        *link.beyond(sys.executable, FAINT, url), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert client.stdout is not None
        assert await client.stdout.readline() == b"streaming\n"
        link.pull()
        assert connected() == ["ESTABLISHED"]  # nobody was told
        await arena.sight.until(CLOSED)
        async with asyncio.timeout(4 * IDLE_S):
            while "ESTABLISHED" in connected():
                await asyncio.sleep(0.05)
    finally:
        client.kill()
        await client.wait()
