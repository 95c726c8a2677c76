"""gRPC over TLS: the pair of the settings, and the newer one when it has changed."""

from __future__ import annotations

from pathlib import Path

import grpc.aio
import pytest
import trustme
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from streamer.errors import ConfigError
from tests.transports.certificates import Authority
from tests.transports.serving import scripted


def serving(authority: Authority) -> App:
    settings = Settings(server={"port": 0}, grpc={"port": -1}, tls=authority.settings)
    return App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED)


async def trusted(app: App, authority: trustme.CA) -> bool:
    """Whether somebody who believes in this authority alone gets through."""
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    # A channel may use another one's connection, unless their arguments differ.
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(f"localhost:{app.grpc_port}", credentials, options) as channel:
        try:
            answer = await HealthStub(channel).Check(HealthCheckRequest())
        except grpc.aio.AioRpcError:
            return False
    return answer.status == HealthCheckResponse.SERVING


async def test_a_newer_pair_is_shown_to_new_connections_and_half_of_one_is_not(tmp_path: Path) -> None:
    first = Authority(tmp_path)
    first.issue()
    async with serving(first) as app:
        assert app.grpc_url is not None
        assert app.grpc_url.startswith("grpcs://")
        assert await trusted(app, first._authority)
        second = Authority(tmp_path)
        second._issued = 7
        second.issue(key=False)
        assert await trusted(app, first._authority)
        second.issue()
        assert await trusted(app, second._authority)
        assert not await trusted(app, first._authority)


async def test_a_certificate_that_cannot_be_read_is_told_before_anything_listens(tmp_path: Path) -> None:
    settings = Settings(server={"port": 0}, grpc={"port": -1}, tls={"certificate": str(tmp_path / "none.pem")})
    with pytest.raises(ConfigError, match=r"tls: .*none\.pem"):
        async with App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED):
            pass
