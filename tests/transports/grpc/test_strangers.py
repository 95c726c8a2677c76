"""What callers without a credential may ask for, and how much of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from streamer.access.keys import new_key
from streamer.app import App
from streamer.inference.contract import Readiness
from streamer.transports.grpc import health
from tests.transports.carriers import serving_all
from tests.transports.grpc.test_server import channel_to, services, status_of

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
SECRET, KEPT = new_key("tests")
Watch = grpc.aio.UnaryStreamCall[HealthCheckRequest, HealthCheckResponse]


async def code_of_health(channel: grpc.aio.Channel, **headers: str) -> grpc.StatusCode:
    """Of a Check and of a Watch, which have to agree."""
    stub, metadata = HealthStub(channel), tuple(headers.items())
    check = stub.Check(HealthCheckRequest(), metadata=metadata)
    watch = stub.Watch(HealthCheckRequest(), metadata=metadata)
    with suppress(grpc.aio.AioRpcError):
        await watch.read()
        watch.cancel()
        await check
        return grpc.StatusCode.OK
    assert await watch.code() is await check.code()
    return await watch.code()


async def reflects(channel: grpc.aio.Channel, code: grpc.StatusCode, **headers: str) -> bool:
    """Whether a call of reflection is answered, or refused, as the code says."""
    metadata = tuple(headers.items())
    if code is grpc.StatusCode.OK:
        return bool(await services(channel, metadata))
    # Nothing is written: a client that writes while it is refused takes that for an error of its own.
    return await ServerReflectionStub(channel).ServerReflectionInfo(metadata=metadata).code() is code


@asynccontextmanager
async def locked(**access: object) -> AsyncIterator[tuple[App, grpc.aio.Channel]]:
    async with serving_all(access={"keys": str(KEPT), **access}) as (app, _), channel_to(app) as channel:
        yield app, channel


OK, WHO = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED


async def test_strangers_see_health_and_no_reflection_where_sessions_need_a_key() -> None:
    async with locked() as (_, channel):
        assert await code_of_health(channel) is OK
        assert await reflects(channel, WHO)
        assert await reflects(channel, WHO, authorization="Bearer sk_wrong")
        assert await reflects(channel, OK, authorization=f"Bearer {SECRET}")


@pytest.mark.parametrize(
    ("anonymous", "of_health", "of_reflection"),
    [("", WHO, WHO), ("health,reflection", OK, OK), ("reflection", WHO, OK)],
)
async def test_the_setting_says_what_strangers_see(
    anonymous: str, of_health: grpc.StatusCode, of_reflection: grpc.StatusCode
) -> None:
    async with locked(anonymous=anonymous) as (app, channel):
        assert await code_of_health(channel) is of_health
        assert await reflects(channel, of_reflection)
        key = f"Bearer {SECRET}"
        assert await code_of_health(channel, authorization=key) is OK
        assert await reflects(channel, OK, authorization=key)
        labels = {"transport": "grpc", "outcome": "unauthenticated"}
        refused = [of_health, of_health, of_reflection].count(WHO)
        assert app.registry.get_sample_value("streamer_handshakes_total", labels) == refused


async def test_without_keys_there_are_no_strangers() -> None:
    async with serving_all(access={"anonymous": ""}) as (app, _), channel_to(app) as channel:
        assert await code_of_health(channel) is OK
        assert await reflects(channel, OK)


@asynccontextmanager
async def elsewhere(app: App) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that comes from another address, through a relay."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", app.grpc_port, local_addr=("127.0.0.2", 0))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}") as channel:
            yield channel
    finally:
        server.close()


async def watching(channel: grpc.aio.Channel, count: int) -> tuple[list[Watch], int]:
    """Start to watch so many times; returns those that were let in, and how many were refused."""
    watches = [HealthStub(channel).Watch(HealthCheckRequest()) for _ in range(count)]
    answers = await asyncio.gather(*(watch.read() for watch in watches), return_exceptions=True)
    let_in = []
    for watch, answer in zip(watches, answers, strict=True):
        if isinstance(answer, grpc.aio.AioRpcError):
            assert answer.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            let_in.append(watch)
    return let_in, count - len(let_in)


def cancel(watches: list[Watch]) -> None:
    for watch in watches:
        watch.cancel()


async def test_watchers_of_one_address_leave_room_to_the_load_balancer() -> None:
    async with serving_all() as (app, _), channel_to(app) as stranger, elsewhere(app) as balancer:
        strangers, refused = await watching(stranger, 100)
        assert (len(strangers), refused) == (app.settings.grpc.max_watches_per_address, 80)
        watches, refused = await watching(balancer, 1)
        assert not refused
        app.engine.readiness = Readiness(False, "no worker answers")  # type: ignore[misc]
        assert {(await watch.read()).status for watch in (*strangers, *watches)} == {NOT_SERVING}
        cancel(strangers + watches)


async def test_a_watcher_that_leaves_makes_room() -> None:
    async with serving_all(grpc={"max_watches_per_address": 1}) as (app, _), channel_to(app) as channel:
        first, refused = await watching(channel, 2)
        assert refused == 1
        cancel(first)
        while not (again := (await watching(channel, 1))[0]):
            await asyncio.sleep(0.01)
        cancel(again)


async def test_watchers_of_all_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_WATCHERS", 30)
    async with serving_all(grpc={"max_watches_per_address": 0}) as (app, _), channel_to(app) as channel:
        watches, refused = await watching(channel, 40)
        assert refused == 10
        cancel(watches)


async def test_a_watcher_hears_of_each_change_even_if_another_one_sees_it_first() -> None:
    async with serving_all() as (app, _), channel_to(app) as channel:
        [watch], _ = await watching(channel, 1)
        for ready in (False, True, False):
            app.engine.readiness = Readiness(ready)  # type: ignore[misc]
            status = SERVING if ready else NOT_SERVING
            assert await status_of(channel) == status
            assert (await watch.read()).status == status
        watch.cancel()


async def test_an_address_that_owes_for_work_is_refused() -> None:
    async with serving_all() as (app, _), channel_to(app) as channel:
        app._addresses.charge("127.0.0.1", 10.0)
        call = channel.stream_stream("/streamer.v2.Streamer/Stream")()
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("streamer-code", "rate_limited") in tuple(await call.trailing_metadata())
        assert await code_of_health(channel) is OK
