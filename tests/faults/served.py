"""`streamer serve` as a process, with what can be seen of it from outside: metrics, log records, workers, probes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import psutil

_LISTENING = re.compile(r'listening on (http://[^"\s]+)')
_LISTENING_GRPC = re.compile(r'listening on grpc://([^"\s]+)')
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What /readyz or /livez answers."""

    status: int
    reason: str


class ServerProcess:
    """A server that listens."""

    def __init__(self, process: Process, log: Path, url: str) -> None:
        self.process = process
        self.url = url
        self.log = log

    @property
    def grpc_target(self) -> str:
        """host:port of gRPC, where it is served."""
        found = _LISTENING_GRPC.search(self.log.read_text())
        assert found is not None
        return found[1]

    def workers(self) -> list[psutil.Process]:
        """The model's processes (not Python's resource tracker), without those that are on their way out."""
        return [child for child in psutil.Process(self.process.pid).children() if "spawn_main" in _command(child)]

    def records(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def said(self, words: str) -> list[dict[str, Any]]:
        """Records whose message has these words."""
        return [record for record in self.records() if words in record["message"]]

    async def logged(self, words: str) -> dict[str, Any]:
        """The last record with these words, as soon as there is one: another thread writes it."""
        await until(lambda: self.said(words))
        return self.said(words)[-1]

    async def metrics(self) -> dict[str, float]:
        """Samples by name and labels, as Prometheus writes them."""
        lines = (await self.metrics_text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def metrics_text(self) -> str:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/metrics") as answer:
            return await answer.text()

    async def probe(self, path: str = "/readyz") -> Probe:
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as answer:
            return Probe(answer.status, (await answer.json()).get("reason", ""))

    async def until_ready(self) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while (await self.probe()).status != 200:
                await asyncio.sleep(0.02)

    async def ended(self, within_s: float = _PATIENCE_S) -> int:
        """The exit code."""
        async with asyncio.timeout(within_s):
            return await self.process.wait()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or it waits to be buried
        return ""


async def until(true: Callable[[], Any], within_s: float = _PATIENCE_S) -> None:
    """Wait for what is bound to come."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def served(
    *arguments: str, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[ServerProcess]:
    """`streamer serve ARGUMENTS` on a free port, ready, its log as JSON in a file; killed in the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STREAMER_", "OTEL_"))}
    words = ["--port", "0", "--set", "log.format=json", *arguments]
    if "--grpc-port" not in arguments:
        words += ["--grpc-port", "0"]
    with TemporaryDirectory() as folder:
        path = log or Path(folder) / "log"
        with path.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streamer", "serve", *words),
                env=kept | dict(environment or {}),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=sink,
            )
        try:
            yield ServerProcess(process, path, await _address(process, path))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _address(process: Process, log: Path) -> str:
    async with asyncio.timeout(_PATIENCE_S):
        while (found := _LISTENING.search(log.read_text())) is None:
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.02)
    return found[1]
