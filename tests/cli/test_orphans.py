"""Processes whose parent is killed do not stay behind, not even those that are stopped."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

import psutil
import pytest

from tests.cli.serving import Server, served

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a parent-death signal needs Linux")

MODEL_PROCESS = ("--set", "model.executor=process")
QUICK = ("--grpc-port", "0", "--set", "drain.lag_s=0.1", "--set", "drain.soft_s=0.1", "--set", "drain.spread_s=0")


async def ready(server: Server) -> list[psutil.Process]:
    """All processes below the server, once the models are there."""
    assert server.process.stderr is not None
    line = await asyncio.to_thread(server.process.stderr.readline)
    assert "ready in" in line
    return psutil.Process(server.process.pid).children(recursive=True)


async def until_stopped(processes: Iterable[psutil.Process]) -> None:
    async with asyncio.timeout(20):
        while not all(process.status() == psutil.STATUS_STOPPED for process in processes):
            await asyncio.sleep(0.01)


async def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=30)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def models(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if any("spawn_main" in word for word in process.cmdline())]


async def test_a_model_process_that_is_stopped_dies_with_its_server() -> None:
    with served("stub", *QUICK, *MODEL_PROCESS, "--set", "model.workers=2") as server:
        stopped = models(await ready(server))
        assert len(stopped) == 2
        for process in stopped:
            process.suspend()
        await until_stopped(stopped)
        server.process.kill()
        try:
            assert await left(stopped) == []
        finally:
            kill(stopped)


async def test_serving_processes_that_are_stopped_and_their_models_end_after_their_supervisor() -> None:
    with served("stub", "--workers", "2", *QUICK, *MODEL_PROCESS) as server:
        processes = await ready(server)
        assert len(models(processes)) == 2
        stopped = [process for process in processes if "resource_tracker" not in " ".join(process.cmdline())]
        for process in stopped:
            process.suspend()
        await until_stopped(stopped)
        server.process.kill()
        try:
            assert await left(stopped) == []
        finally:
            kill(stopped)


def kill(processes: Iterable[psutil.Process]) -> None:
    """What a test that fails would leave behind."""
    for process in processes:
        if process.is_running():
            process.kill()
