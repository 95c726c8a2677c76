"""The load balancer of deploy/haproxy, as a process in front of servers on this machine."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.deploy.test_deploy import DEPLOY

HAPROXY = shutil.which("haproxy")
TEMPLATE = re.compile(r"server-template streamer 8 streamer:(\d+) .*")


class ServerPorts(NamedTuple):
    """Ports of a server. `metrics`: the one that answers `/readyz`."""

    websocket: int
    grpc: int
    metrics: int


class Balancer:
    """HAProxy with the configuration of deploy/, in front of servers on this machine."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "haproxy.sock"
        self._config = folder / "haproxy.cfg"
        self.websocket = socket.create_server(("127.0.0.1", 0))
        self.grpc = socket.create_server(("127.0.0.1", 0))

    def configure(self, ports: Iterable[ServerPorts]) -> None:
        every = list(ports)
        text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()

        def servers(match: re.Match[str]) -> str:
            field = {"8080": "websocket", "50051": "grpc"}[match[1]]
            return "\n  ".join(
                f"server s{number} 127.0.0.1:{getattr(each, field)} source 127.0.0.1 port {each.metrics}"
                for number, each in enumerate(every)
            )

        text = TEMPLATE.sub(servers, text)
        text = text.replace("http-check connect port 9464", "http-check connect")  # here each server has its own
        text = text.replace("bind :8080", f"bind fd@{self.websocket.fileno()}")
        text = text.replace("bind :50051", f"bind fd@{self.grpc.fileno()}")
        text = text.replace("global\n", f"global\n  stats socket {self._socket}\n", 1)
        text = re.sub(r"  log stdout.*\n|  log global\n", "", text)
        self._config.write_text(re.sub(r"resolvers docker\n(  .*\n)+", "", text))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        assert HAPROXY is not None
        process = await asyncio.create_subprocess_exec(
            HAPROXY, "-db", "-f", str(self._config), pass_fds=[self.websocket.fileno(), self.grpc.fileno()]
        )
        try:
            yield
        finally:
            process.kill()
            await process.wait()
            self.websocket.close()
            self.grpc.close()

    async def states(self, backend: str) -> dict[str, str]:
        """The state of each server of a backend."""
        with suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            writer.write(b"show stat\n")
            lines = [line.split(",") for line in (await reader.read()).decode().splitlines()]
            writer.close()
            await writer.wait_closed()
            return {row[1]: row[17] for row in lines if row[0] == backend and row[1].startswith("s")}
        return {}

    async def until(self, backend: str, states: dict[str, str]) -> None:
        while await self.states(backend) != states:
            await asyncio.sleep(0.05)
