"""Calls that have not said who they are: as many wait as are allowed, and sessions are none of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.client.grpc_link import METHOD
from streamer.protocols.pb import streamer_pb2 as pb
from tests.transports.carriers import serving_all

MAX_HANDSHAKES = 3
RETRY_AFTER_S = 1.5
START = pb.Start(format=pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1))

Call = grpc.aio.StreamStreamCall[bytes, bytes]


class Strangers:
    """Calls without a credential, to a server that takes one in a first message."""

    def __init__(self, app: App, channel: grpc.aio.Channel, secret: str) -> None:
        self.app = app
        self.channel = channel
        self.secret = secret

    async def call(self) -> Call | None:
        """A call that was accepted; None when it was refused as one too many."""
        call: Call = self.channel.stream_stream(METHOD)()
        if "streamer-protocol" in dict(await call.initial_metadata()):
            return call
        trailers = dict(await call.trailing_metadata())
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert (trailers["streamer-code"], trailers["retry-after-ms"]) == ("overloaded", "1500")
        return None

    async def fill(self) -> list[Call]:
        calls = [await self.call() for _ in range(MAX_HANDSHAKES)]
        accepted = [call for call in calls if call is not None]
        assert len(accepted) == MAX_HANDSHAKES
        return accepted

    def refused(self) -> float | None:
        labels = {"transport": "grpc", "outcome": "overloaded"}
        return self.app.registry.get_sample_value("streamer_handshakes_total", labels)


@asynccontextmanager
async def strangers(handshake_timeout_s: float = 60.0) -> AsyncIterator[Strangers]:
    secret, key = new_key("tests")
    server = {
        "max_handshakes": MAX_HANDSHAKES,
        "handshake_timeout_s": handshake_timeout_s,
        "retry_after_s": RETRY_AFTER_S,
    }
    async with (
        serving_all(server=server, access={"keys": str(key), "first_message": True}) as (app, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel,
    ):
        yield Strangers(app, channel, secret)


async def heard_started(call: Call) -> None:
    assert pb.ServerMessage.FromString(await call.read()).HasField("started")


async def test_one_call_too_many_is_refused_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "streamer")
    async with strangers() as some:
        calls = await some.fill()
        assert not some.refused()
        assert await some.call() is None
        assert some.refused() == 1
        [record] = [record for record in caplog.records if record.getMessage() == "session refused"]
        assert record.levelname == "INFO"
        for call in calls:
            call.cancel()


async def test_a_session_is_no_handshake_and_leaves_its_room_to_the_next() -> None:
    async with strangers() as some:
        calls = await some.fill()
        said = pb.ClientMessage(start=pb.Start(format=START.format, token=some.secret))
        for call in calls:  # each of them becomes a session, so that many more may come
            await call.write(said.SerializeToString())
            await heard_started(call)
        calls += await some.fill()
        assert await some.call() is None
        for call in calls:
            call.cancel()


async def test_who_shows_a_credential_at_once_comes_in_past_those_who_have_not() -> None:
    async with strangers() as some:
        calls = await some.fill()
        call: Call = some.channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {some.secret}"),))
        await call.write(pb.ClientMessage(start=START).SerializeToString())
        await heard_started(call)
        for each in [*calls, call]:
            each.cancel()


async def test_whoever_is_cut_off_or_leaves_makes_room() -> None:
    async with strangers(handshake_timeout_s=0.2) as some:
        for call in await some.fill():
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        for call in await some.fill():
            call.cancel()
        while (call := await some.call()) is None:  # the server hears of it a moment later
            await asyncio.sleep(0.01)
        call.cancel()
