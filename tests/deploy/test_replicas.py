"""Two servers behind the load balancer of deploy/haproxy: spread by connections, and drained without a refusal."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import grpc.aio
import pytest
import yaml

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from streamer.protocols.pb import streamer_pb2 as pb
from tests.deploy.test_deploy import DEPLOY
from tests.transports.serving import scripted
from tests.transports.test_handshake_limits import let_go
from tests.transports.test_proxies import Peers

from tests.faults.raw import UPGRADE  # isort: skip

HAPROXY = shutil.which("haproxy")
CLIENT = "127.0.0.7"
TEMPLATE = re.compile(r"server-template streamer 8 streamer:(\d+) .*")


def environment() -> dict[str, str]:
    """Settings of each server in the compose file."""
    compose = yaml.safe_load((DEPLOY / "compose.replicas.yaml").read_text())
    return dict(compose["services"]["streamer"]["environment"])


def test_the_servers_trust_the_network_of_their_load_balancer() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.replicas.yaml").read_text())
    [network] = compose["networks"]["inside"]["ipam"]["config"]
    assert environment()["STREAMER_SERVER__TRUSTED_PROXIES"] == network["subnet"]
    for volume in compose["services"]["haproxy"]["volumes"]:
        assert (DEPLOY / volume.split(":")[0]).is_file()


@asynccontextmanager
async def server(peers: Peers) -> AsyncIterator[App]:
    own = {
        "port": 0,
        "metrics_address": "127.0.0.1:0",
        "trusted_proxies": ("127.0.0.1",),
        "proxy_header": environment()["STREAMER_SERVER__PROXY_HEADER"],
        "hosts": tuple(environment()["STREAMER_SERVER__HOSTS"].split(",")),
    }
    settings = Settings(server=own, grpc={"port": -1})
    async with App(settings, parts=scripted(), observers=[peers], grpc=GrpcAvailability.REQUIRED) as app:
        yield app


class Balancer:
    """HAProxy with the configuration of deploy/, in front of servers in this process."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "haproxy.sock"
        self._config = folder / "haproxy.cfg"
        self.websocket = socket.create_server(("127.0.0.1", 0))
        self.grpc = socket.create_server(("127.0.0.1", 0))

    def configure(self, apps: Iterable[App]) -> None:
        text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()

        def servers(match: re.Match[str]) -> str:
            ports = {"8080": lambda app: app.port, "50051": lambda app: app.grpc_port}[match[1]]
            return "\n  ".join(
                f"server s{number} 127.0.0.1:{ports(app)} source 127.0.0.1 port {app.metrics_port}"
                for number, app in enumerate(apps)
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


async def open_session(stack: AsyncExitStack, balancer: Balancer) -> bytes:
    client = socket.socket()
    client.setblocking(False)
    client.bind((CLIENT, 0))
    await asyncio.get_running_loop().sock_connect(client, balancer.websocket.getsockname())
    reader, writer = await asyncio.open_connection(sock=client)
    stack.callback(let_go, reader, writer)
    writer.write(UPGRADE + b"\r\n")
    return await reader.readline()


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is in Debian's package haproxy")
async def test_sessions_are_spread_and_a_draining_server_gets_no_more(tmp_path: Path) -> None:
    peers = Peers(), Peers()
    async with AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(server(each)) for each in peers]
        balancer = Balancer(tmp_path)
        balancer.configure(apps)
        await stack.enter_async_context(balancer.running())
        await balancer.until("websocket", {"s0": "UP", "s1": "UP"})
        for _ in range(6):
            assert b" 101 " in await open_session(stack, balancer)
        assert [each.sessions for each in peers] == [[CLIENT] * 3, [CLIENT] * 3]

        await balancer.until("grpc", {"s0": "UP", "s1": "UP"})
        async with grpc.aio.insecure_channel("{}:{}".format(*balancer.grpc.getsockname())) as channel:
            call = channel.stream_stream("/streamer.v2.Streamer/Stream")()
            audio_format = pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1)
            await call.write(pb.ClientMessage(start=pb.Start(format=audio_format)).SerializeToString())
            assert pb.ServerMessage.FromString(await call.read()).HasField("started")
            call.cancel()
        assert sum(len(each.sessions) for each in peers) == 7

        drain = asyncio.create_task(apps[0].drain(lag_s=60.0))
        await balancer.until("websocket", {"s0": "DOWN", "s1": "UP"})
        before = len(peers[0].sessions)
        for _ in range(4):
            assert b" 101 " in await open_session(stack, balancer)
        assert len(peers[0].sessions) == before
        assert all(not each.refusals for each in peers)
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
