"""A server process and its supervisor: what a scrape has if the counts of all cannot be had."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import aiohttp
import pytest

from streamer.config import Settings
from streamer.supervision.ipc import Ready, WorkerSettings
from streamer.supervision.multi_process import COMMAND
from streamer.supervision.ports import SharedPorts
from streamer.supervision.shared_replay_store import new_table
from streamer.supervision.supervisor import ProcessPlan, Supervisor, SupervisorOutcome
from streamer.telemetry.metrics_merge import MetricsAggregator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="more than one process needs Linux")


class Unmergeable(MetricsAggregator):
    """Has counts that do not add up."""

    def merge(self, now: Sequence[bytes], past: Sequence[bytes]) -> bytes:
        raise ValueError("counts of different kinds")


async def test_counts_that_cannot_be_merged_leave_a_scrape_those_of_its_process(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    with SharedPorts() as ports:
        settings = Settings(server={"port": ports.reserve("127.0.0.1", 0)}, grpc={"port": 0}, log={"format": "text"})
        setup = WorkerSettings(settings.model_dump_json().encode(), {}, new_table())
        supervisor = Supervisor(ProcessPlan(COMMAND, setup, 1, 20.0, 20.0), Unmergeable(), ready.set_result)
        running = asyncio.create_task(supervisor.run())
        try:
            done, _ = await asyncio.wait([ready, running], timeout=50, return_when=asyncio.FIRST_COMPLETED)
            assert ready in done
            async with aiohttp.ClientSession() as http, http.get(f"{ready.result().url}/metrics") as response:
                assert response.status == 200
                assert "streamer_sessions_active" in await response.text()
        finally:
            supervisor.end()
            assert await running == SupervisorOutcome(0)
    [warning] = [line for line in capfd.readouterr().err.splitlines() if "WARNING" in line and "metrics" in line]
    assert "this scrape has those of this process only" in warning
