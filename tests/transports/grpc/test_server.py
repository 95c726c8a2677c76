"""What a gRPC server is beside its streams: health, reflection, refusals, bounds, an address of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

import streamer
from streamer.access.keys import new_key
from streamer.app import App, GrpcAvailability
from streamer.client import ConnectFailed, ConnectionClosed, HandshakeRefused, Segment, Started
from streamer.client.grpc_transport import METHOD
from streamer.config import Settings
from streamer.errors import BadRequest, ConfigError, ErrorCode, ListenFailed, Overloaded
from streamer.inference.contract import Readiness
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.actions import Output
from streamer.testing import ScriptedEngine
from streamer.transports.grpc.transport import address
from tests.transports.carriers import serving_all
from tests.transports.serving import scripted

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
START = pb.ClientMessage(
    start=pb.Start(format=pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1))
)


@asynccontextmanager
async def serving(**sections: Any) -> AsyncIterator[tuple[App, grpc.aio.Channel]]:
    async with serving_all(**sections) as (app, _), channel_to(app) as channel:
        yield app, channel


def channel_to(app: App) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}")


async def status_of(channel: grpc.aio.Channel, service: str = "streamer.v2.Streamer") -> object:
    return (await HealthStub(channel).Check(HealthCheckRequest(service=service))).status


async def test_health_follows_the_readiness_of_the_model() -> None:
    async with serving() as (app, channel):
        assert await status_of(channel) == SERVING
        assert await status_of(channel, "") == SERVING
        app.engine.readiness = Readiness(False, "no worker answers")  # type: ignore[misc]
        assert await status_of(channel) == NOT_SERVING
        app.engine.readiness = Readiness(True)  # type: ignore[misc]
        assert await status_of(channel) == SERVING


async def test_health_knows_its_services() -> None:
    async with serving() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await status_of(channel, "streamer.v3.Streamer")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        watch = HealthStub(channel).Watch(HealthCheckRequest(service="streamer.v3.Streamer"))
        assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_who_watches_health_hears_of_a_drain_and_is_let_go_at_the_end() -> None:
    async with serving() as (app, channel):
        watch = HealthStub(channel).Watch(HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(app.drain(lag_s=0.0))
            assert (await watch.read()).status == NOT_SERVING
        assert await status_of(channel) == NOT_SERVING
        await app.stop()
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK


async def services(channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> list[str]:
    call = ServerReflectionStub(channel).ServerReflectionInfo(metadata=metadata)
    await call.write(ServerReflectionRequest(list_services=""))
    answer = await call.read()
    await call.write(ServerReflectionRequest(file_containing_symbol="streamer.v2.Streamer"))
    described = await call.read()
    files = [FileDescriptorProto.FromString(each) for each in described.file_descriptor_response.file_descriptor_proto]
    assert "streamer/v2/streamer.proto" in {file.name for file in files}
    await call.done_writing()
    return [service.name for service in answer.list_services_response.service]


async def test_reflection_tells_what_is_served() -> None:
    async with serving() as (_, channel):
        assert {"streamer.v2.Streamer", "grpc.health.v1.Health"} <= set(await services(channel))


async def test_reflection_can_be_turned_off() -> None:
    settings = Settings(server={"port": 0}, grpc={"port": -1, "reflection": False})
    async with App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED) as app, channel_to(app) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await services(channel)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_client_library_speaks_it() -> None:
    async with serving_all() as (app, notes):
        assert app.grpc_url is not None
        async with streamer.connect(app.grpc_url, mode="simple", chunk_ms=500, traceparent="00-a") as stream:
            await stream.send(bytes(32_000))
            await stream.stop()
            events = [event async for event in stream]
            assert (await stream.wait_closed()).code == 1000
        assert isinstance(events[0], Started)
        assert (events[0].mode, events[0].traceparent) == ("simple", "00-a")
        assert sum(event.output["count"] for event in events if isinstance(event, Segment)) == 16_000
        assert [info.transport for info in notes.sessions] == ["grpc"]
        assert [info.peer for info in notes.sessions] == ["127.0.0.1"]


async def test_a_session_counts_in_the_mode_that_its_start_names() -> None:
    async with serving_all() as (app, _):
        assert app.grpc_url is not None

        def counted(name: str, mode: str) -> float | None:
            labels = {"transport": "grpc", "mode": mode}
            return app.registry.get_sample_value(f"streamer_sessions_{name}", labels)

        async with streamer.connect(app.grpc_url, mode="simple") as stream:
            await anext(stream)
            assert counted("active", "simple") == counted("started_total", "simple") == 1
            await stream.stop()
            [event async for event in stream]
        await app.connections.wait_empty()
        assert not counted("active", "simple")
        assert not counted("active", "segmented")
        assert not counted("started_total", "segmented")


async def test_a_connection_that_the_server_ends_says_why() -> None:
    async with serving_all(limits={"idle_timeout_s": 0.1}) as (app, _):
        assert app.grpc_url is not None
        async with streamer.connect(app.grpc_url) as stream:
            with pytest.raises(ConnectionClosed) as closed:
                [event async for event in stream]
        assert closed.value.code is ErrorCode.IDLE_TIMEOUT
        assert closed.value.close_code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_a_refusal_says_when_to_come_back() -> None:
    async with serving_all() as (app, _):
        assert isinstance(app.engine, ScriptedEngine)
        assert app.grpc_url is not None
        app.engine.refuse_admission = Overloaded(retry_after_s=1.5)
        with pytest.raises(HandshakeRefused) as refused:
            async with streamer.connect(app.grpc_url):
                pass
        assert (refused.value.code, refused.value.retry_after_s) == (ErrorCode.OVERLOADED, 1.5)


async def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(ConnectFailed, match=r"^cannot reach grpc://127\.0\.0\.1:1: [a-z][^\n]*$"):
        async with streamer.connect("grpc://127.0.0.1:1"):
            pass


@pytest.mark.parametrize("url", ["grpc://", "grpc://host:1/api/v2/simple"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="url: expected"):
        async with streamer.connect(url):
            pass


async def ended(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> grpc.StatusCode:
    """Its status, which comes after everything else has been read."""
    with suppress(grpc.aio.AioRpcError):
        while isinstance(await call.read(), bytes):
            pass
    return await call.code()


@pytest.mark.parametrize(("size", "passes"), [(2**18, True), (2**18 + 1, False), (2**18 + 5_000, False)])
async def test_an_audio_message_is_bounded(size: int, passes: bool) -> None:
    """One byte too many is refused by name; more than that by gRPC, before it is read."""
    async with serving(grpc={"max_message_bytes": 2**18}) as (_, channel):
        call = channel.stream_stream(METHOD)()
        await call.write(START.SerializeToString())
        await call.write(pb.ClientMessage(audio=bytes(size)).SerializeToString())
        await call.done_writing()
        code = await ended(call)
        assert code is (grpc.StatusCode.OK if passes else grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_a_compressed_message_is_refused() -> None:
    async with serving_all() as (app, _):
        target = f"127.0.0.1:{app.grpc_port}"
        async with grpc.aio.insecure_channel(target, compression=grpc.Compression.Gzip) as channel:
            call = channel.stream_stream(METHOD)()
            assert await ended(call) is grpc.StatusCode.UNIMPLEMENTED


async def test_a_client_that_never_reads_is_cut_off_and_nothing_stays() -> None:
    """What it was sent fills every window on the way; then nothing moves, not even a status."""
    async with serving_all(server={"outbox_bytes": 2**26, "outbox_stall_s": 0.3}) as (app, notes):
        assert isinstance(app.engine, ScriptedEngine)
        app.engine._answer = lambda job: Output.of({"text": "x" * 1_000_000})
        start = pb.Start(format=START.start.format, mode="MODE_SIMPLE", chunk_ms=20)
        async with channel_to(app) as channel:
            call = channel.stream_stream(METHOD)()
            await call.write(pb.ClientMessage(start=start).SerializeToString())
            await call.write(pb.ClientMessage(audio=bytes(32_000)).SerializeToString())
            await call.read()  # that it has started, and nothing after
            async with asyncio.timeout(20):
                await app.connections.wait_empty()
            assert notes.ends[0].code is ErrorCode.SLOW_CONSUMER
            assert not app.scoring.rows  # type: ignore[attr-defined]


async def test_a_bug_behind_a_call_costs_that_call_alone() -> None:
    async with serving_all() as (app, notes):
        assert app.grpc_url is not None

        def broken(*_: object) -> Any:
            raise RuntimeError("a bug")

        app.engine.submit = broken  # type: ignore[method-assign]
        async with streamer.connect(app.grpc_url, mode="simple") as stream:
            await stream.send(bytes(32_000))
            with pytest.raises(ConnectionClosed) as closed:
                [event async for event in stream]
        assert closed.value.code is ErrorCode.INTERNAL
        assert [str(error) for error in notes.broke] == ["a bug"]


async def test_clients_that_leave_at_once_are_no_errors_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async with serving_all() as (app, notes), channel_to(app) as channel:
        for turns in range(100):
            call = channel.stream_stream(METHOD)()
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
        await status_of(channel)
        await app.connections.wait_empty()
        assert not notes.broke
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_token_travels_as_metadata_in_an_auth_or_in_the_start() -> None:
    secret, key = new_key("tests")
    access = {"keys": str(key), "first_message": True}
    async with serving(access=access) as (app, channel):
        assert app.grpc_url is not None
        async with streamer.connect(app.grpc_url, token=secret) as stream:
            assert isinstance(await anext(stream), Started)
        said_first = pb.ClientMessage(auth=pb.Auth(token=secret))
        in_start = pb.ClientMessage(start=pb.Start(format=START.start.format, token=secret))
        for words in ([said_first, START], [in_start]):
            call = channel.stream_stream(METHOD)()
            for word in words:
                await call.write(word.SerializeToString())
            assert pb.ServerMessage.FromString(await call.read()).HasField("started")
            call.cancel()
        call = channel.stream_stream(METHOD)()
        await call.write(START.SerializeToString())
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_port_that_is_taken_is_an_error_only_where_grpc_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async with serving_all() as (app, _):
        settings = Settings(server={"port": 0}, grpc={"port": app.grpc_port})
        with pytest.raises(ListenFailed, match="for gRPC: is the port in use"):
            async with App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED):
                pass
        async with App(settings, parts=scripted(), grpc=GrpcAvailability.OPTIONAL) as second:
            assert second.grpc_url is None
        assert "gRPC is disabled" in caplog.text


async def test_missing_packages_are_an_error_only_where_grpc_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith("streamer.transports.grpc."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setitem(sys.modules, "grpc.aio", None)
    settings = Settings(server={"port": 0}, grpc={"port": -1})
    with pytest.raises(ConfigError, match=r"pip install 'streamer-audio\[grpc\]'"):
        async with App(settings, parts=scripted(), grpc=GrpcAvailability.REQUIRED):
            pass
    async with App(settings, parts=scripted(), grpc=GrpcAvailability.OPTIONAL) as app:
        assert app.grpc_url is None


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:4711", "127.0.0.1"),
        ("ipv6:%5B::1%5D:4711", "::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:/run/socket", "unix:/run/socket"),
    ],
)
def test_a_peer_is_named_by_its_address(peer: str, expected: str) -> None:
    assert address(peer) == expected
