"""Two servers behind the load balancer of deploy/haproxy: spread by connections, and drained without a refusal."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest
import yaml

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from streamer.protocols.pb import streamer_pb2 as pb
from tests.deploy.balancer import HAPROXY, Balancer, ServerPorts
from tests.deploy.test_deploy import DEPLOY
from tests.transports.serving import scripted
from tests.transports.test_handshake_limits import let_go
from tests.transports.test_proxies import Peers

from tests.faults.raw import UPGRADE  # isort: skip

CLIENT = "127.0.0.7"


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
        balancer.configure(ServerPorts(app.port, app.grpc_port, app.metrics_port) for app in apps)
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
