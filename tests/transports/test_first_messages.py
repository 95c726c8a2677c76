"""Connections that are accepted before they say who they are: bounded over both transports together."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from streamer.access.keys import new_key
from streamer.app import App
from streamer.client import Closed, HandshakeRefused
from streamer.client.grpc_transport import open_call
from streamer.client.websocket_transport import open_websocket
from streamer.errors import ErrorCode
from streamer.protocols.pb import streamer_pb2 as pb
from tests.transports.carriers import serving_all
from tests.transports.serving import V2_START

MAX_HANDSHAKES = 4
RETRY_AFTER_S = 1.5
WAYS = ("websocket", "grpc")
FORMAT = pb.AudioFormat(encoding="ENCODING_PCM_S16LE", sample_rate=16_000, channels=1)


class Strangers:
    """Clients of a server that takes a credential in a first message."""

    def __init__(self, app: App, secret: str, stack: AsyncExitStack) -> None:
        self.app = app
        self.secret = secret
        self._stack = stack

    async def open(self, way: str, token: str | None = None) -> Any:
        """A connection that was accepted and has said nothing, unless it shows a token at once."""
        return await self._stack.enter_async_context(self._link(way, token))

    async def fill(self) -> list[tuple[str, Any]]:
        return [(way, await self.open(way)) for way in WAYS * (MAX_HANDSHAKES // len(WAYS))]

    async def refused(self, way: str) -> HandshakeRefused:
        with pytest.raises(HandshakeRefused) as caught:
            await self.open(way)
        return caught.value

    async def become_a_session(self, way: str, link: Any) -> None:
        if way == "grpc":
            await link.send_frame(
                pb.ClientMessage(start=pb.Start(format=FORMAT, token=self.secret)).SerializeToString()
            )
            assert pb.ServerMessage.FromString(await link.receive_frame()).HasField("started")
        else:
            await link.send_frame(json.dumps({"type": "auth", "token": self.secret}))
            await link.send_frame(json.dumps(V2_START))
            assert json.loads(await link.receive_frame())["type"] == "started"

    def _link(self, way: str, token: str | None) -> AbstractAsyncContextManager[Any]:
        if way == "grpc":
            assert self.app.grpc_url is not None
            return open_call(self.app.grpc_url, token=token)
        return open_websocket(f"{self.app.url}/api/v2/simple", dialect="v2", token=token)


@asynccontextmanager
async def strangers(handshake_timeout_s: float = 60.0) -> AsyncIterator[Strangers]:
    secret, key = new_key("tests")
    server = {
        "max_handshakes": MAX_HANDSHAKES,
        "handshake_timeout_s": handshake_timeout_s,
        "retry_after_s": RETRY_AFTER_S,
        "max_control_share_per_address": 0,  # a busy machine makes the work of a few handshakes long
    }
    access = {"keys": str(key), "first_message": True}
    async with serving_all(server=server, access=access) as (app, _), AsyncExitStack() as stack:
        yield Strangers(app, secret, stack)


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_waits_too_many_is_refused_counted_and_logged(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamer")
    async with strangers() as some:
        await some.fill()
        refused = await some.refused(way)
        assert (refused.code, refused.retry_after_s) == (ErrorCode.OVERLOADED, RETRY_AFTER_S)
        labels = {"transport": way, "outcome": "overloaded"}
        assert some.app.registry.get_sample_value("streamer_handshakes_total", labels) == 1
        assert [record.getMessage() for record in caplog.records].count("session refused") == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_session_leaves_its_room_to_the_next_that_waits(way: str) -> None:
    async with strangers() as some:
        for each, link in await some.fill():
            await some.become_a_session(each, link)
        await some.fill()
        await some.refused(way)


@pytest.mark.parametrize("way", WAYS)
async def test_a_credential_that_is_shown_at_once_is_kept_out_by_none_that_wait(way: str) -> None:
    async with strangers() as some:
        await some.fill()
        await some.open(way, some.secret)


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_leaves_makes_room(way: str) -> None:
    async with strangers() as some:
        for _, link in await some.fill():
            await link.close()
        while True:  # the server hears of it a moment later
            with suppress(HandshakeRefused):
                await some.open(way)
                break


@pytest.mark.parametrize("way", WAYS)
async def test_whoever_says_nothing_in_time_makes_room(way: str) -> None:
    async with strangers(handshake_timeout_s=0.2) as some:
        for _, link in await some.fill():
            while not isinstance(closed := await link.receive_frame(), Closed):
                pass
            assert closed.reason == ErrorCode.UNAUTHENTICATED
        await some.open(way)
