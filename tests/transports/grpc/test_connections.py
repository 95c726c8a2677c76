"""Connections to the gRPC port: bounded in number, in what runs on each, and in how long they may say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from streamer.client.grpc_transport import METHOD
from streamer.config import Settings
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.transports.grpc.auxiliary import MAX_STREAMING, MAX_WAITING
from streamer.transports.grpc.options import max_calls
from tests.transports.carriers import serving_all
from tests.transports.grpc.raw_http2 import (
    MAX_CONCURRENT_STREAMS,
    PREFACE,
    REFUSED_STREAM,
    Connection,
    Kind,
    connected,
)

CHECK = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
START = pb.Start(format=pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1))
PATIENT = {"handshake_timeout_s": 60.0}
"""Nothing is dropped while a test lasts."""


async def heard_started(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
    assert pb.ServerMessage.FromString(await call.read()).HasField("started")


def nothing(_: Connection) -> None:
    pass


def half_of_the_preface(connection: Connection) -> None:
    connection.writer.write(PREFACE[:10])


def the_preface_alone(connection: Connection) -> None:
    connection.writer.write(PREFACE)


def no_call(connection: Connection) -> None:
    connection.greet()


@pytest.mark.parametrize("says", [nothing, half_of_the_preface, the_preface_alone, no_call])
async def test_a_connection_that_makes_no_call_in_time_is_dropped(says: Callable[[Connection], None]) -> None:
    """Even if it answers pings."""
    async with serving_all(server={"handshake_timeout_s": 0.3}) as (app, _), connected(app.grpc_port) as connection:
        says(connection)
        await connection.is_dropped()


async def test_a_connection_with_a_call_outlasts_those_without() -> None:
    async with (
        serving_all(server={"handshake_timeout_s": 0.3}) as (app, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel,
    ):
        call = channel.stream_stream(METHOD)()
        await call.write(pb.ClientMessage(start=START).SerializeToString())
        await heard_started(call)
        async with connected(app.grpc_port) as silent:
            await silent.is_dropped()
        await call.done_writing()
        assert pb.ServerMessage.FromString(await call.read()).HasField("finished")
        # And one that was closed meanwhile is opened anew, which its client does not notice.
        async with connected(app.grpc_port) as silent:
            await silent.is_dropped()
        await HealthStub(channel).Check(HealthCheckRequest())


async def test_as_many_connections_as_are_set_and_one_more_is_closed_at_once() -> None:
    async with serving_all(server=PATIENT, grpc={"max_connections": 3}) as (app, _), AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(app.grpc_port)) for _ in range(3)]
        for connection in held:
            connection.greet()
            assert await connection.until(Kind.SETTINGS, 0)
        async with connected(app.grpc_port) as one_more:
            await one_more.is_dropped()
        assert not one_more.frames
        held[0].writer.close()
        async with asyncio.timeout(20):  # its place comes back, once the server has heard of it
            while True:
                async with connected(app.grpc_port) as next_one:
                    next_one.greet()
                    if await next_one.next() is not None:
                        break


async def test_as_many_calls_on_a_connection_as_are_set_and_one_more_is_refused() -> None:
    grpc_settings = {"max_streams_per_connection": 3}
    async with serving_all(server=PATIENT, grpc=grpc_settings) as (app, _), connected(app.grpc_port) as connection:
        connection.greet()
        assert await connection.setting(MAX_CONCURRENT_STREAMS) == 3
        for stream in [connection.call(METHOD) for _ in range(3)]:
            assert await connection.until(Kind.HEADERS, stream)  # taken on
        refused = await connection.until(Kind.RST_STREAM, connection.call(METHOD))
        assert int.from_bytes(refused.payload, "big") == REFUSED_STREAM
        assert app.admission.active == 3


async def test_a_peer_that_does_not_answer_a_ping_is_dropped_though_it_has_a_call() -> None:
    """In the time that is set: gRPC alone would wait a minute."""
    keepalive = {"keepalive_s": 1.0, "keepalive_timeout_s": 1.0}
    async with (
        serving_all(server=PATIENT, grpc=keepalive) as (app, _),
        connected(app.grpc_port, answers_pings=False) as connection,
    ):
        connection.greet()
        assert await connection.until(Kind.HEADERS, connection.call(METHOD))
        await connection.is_dropped()
        await app.connections.wait_empty()


async def test_a_call_that_never_sends_its_one_request_is_ended_in_time() -> None:
    async with serving_all(server={"handshake_timeout_s": 0.3}) as (app, _), connected(app.grpc_port) as connection:
        connection.greet()
        trailers = await connection.until(Kind.HEADERS, connection.call(CHECK))
        assert b"no request within 0.3 s" in trailers.payload


async def test_a_health_check_is_answered_beside_any_number_of_calls_that_never_say_what_they_ask() -> None:
    one_connection = {"max_streams_per_connection": 2 * MAX_WAITING}
    async with serving_all(server=PATIENT, grpc=one_connection) as (app, _), connected(app.grpc_port) as connection:
        connection.greet()
        for _ in range(2 * MAX_WAITING):
            connection.call(CHECK)
        gone: set[int] = set()
        async with asyncio.timeout(20):
            while len(gone) < MAX_WAITING:  # the oldest give way; gRPC does not keep the order of calls
                frame = await connection.next()
                assert frame is not None
                if frame.kind == Kind.HEADERS:
                    assert b"too many calls wait" in frame.payload
                    gone.add(frame.stream)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            for _ in range(MAX_WAITING + 1):
                await HealthStub(channel).Check(HealthCheckRequest())


async def test_streams_beside_sessions_are_bounded_and_leave_sessions_and_checks_their_room() -> None:
    one_connection = {"max_streams_per_connection": 2 * MAX_STREAMING}
    async with serving_all(server=PATIENT, grpc=one_connection) as (app, _), connected(app.grpc_port) as connection:
        connection.greet()
        for _ in range(MAX_STREAMING + 1):
            connection.call(REFLECTION)
        async with asyncio.timeout(20):  # one of them is refused; gRPC does not keep the order of calls
            while (frame := await connection.next()) is not None and frame.kind != Kind.HEADERS:
                pass
        assert frame is not None
        assert f"{MAX_STREAMING} streaming calls beside sessions".encode() in frame.payload
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel:
            assert not await is_reflection_answered(channel)
            await HealthStub(channel).Check(HealthCheckRequest())
            call = channel.stream_stream(METHOD)()
            await call.write(pb.ClientMessage(start=START).SerializeToString())
            await heard_started(call)
            call.cancel()
            connection.writer.close()
            async with asyncio.timeout(20):  # their places come back
                while not await is_reflection_answered(channel):
                    pass


async def is_reflection_answered(channel: grpc.aio.Channel) -> bool:
    """Ask what is served.

    The request is an iterator: `write` of grpc.aio can wait forever on a call that is refused at once.
    """
    call = ServerReflectionStub(channel).ServerReflectionInfo(iter([ServerReflectionRequest(list_services="")]))
    try:
        return [answer async for answer in call] != []
    except grpc.aio.AioRpcError:
        return False


def test_grpc_takes_on_whatever_is_refused_by_name_above_its_own_bound() -> None:
    settings = Settings(server={"max_sessions": 7, "max_handshakes": 5})
    assert max_calls(settings) > 7 + 5 + MAX_WAITING + MAX_STREAMING
