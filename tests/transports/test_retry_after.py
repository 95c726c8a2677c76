"""A client that is refused or ended because of load is told when to come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc.aio
import pytest
from aiohttp import ClientWebSocketResponse

from streamer.access import new_key
from streamer.client.events import Error
from streamer.client.grpc_transport import METHOD, GrpcClientTransport
from streamer.protocols.pb import streamer_pb2 as pb
from streamer.session.events import Mode
from streamer.session.messages import Audio, Flush, Start
from streamer.testing import ScriptedScoring
from streamer.transports.grpc.status import PUSHBACK_KEY, RETRY_KEY
from tests.session.harness import S16, bursts
from tests.transports.carriers import calling, serving_all
from tests.transports.serving import V1_START, V2_START, dialled, events, scripted, serving

KEY, KEPT = new_key("somebody")
ASKING: Mapping[str, Any] = {"keys": [str(KEPT)], "first_message": True}
AUTH = {"type": "auth", "token": KEY}
AFTER_S = 1.5
TOLD = 1_500


async def started(socket: ClientWebSocketResponse) -> None:
    await socket.send_json(AUTH)
    await socket.send_json(V2_START)
    assert (await socket.receive_json())["type"] == "started"


@pytest.mark.parametrize(
    ("setting", "code", "close"),
    [("max_sessions_per_subject", "rate_limited", 4429), ("max_sessions", "overloaded", 1013)],
)
async def test_a_refusal_after_the_upgrade_says_when_to_come_back(setting: str, code: str, close: int) -> None:
    settings = {setting: 1, "retry_after_s": AFTER_S}
    async with (
        serving(server=settings, access=ASKING) as app,
        dialled(app) as late,  # let in while there was room, and only then somebody else takes it
        dialled(app) as first,
    ):
        await started(first)
        await late.send_json(AUTH)
        [error] = await events(late)
        assert (error["code"], error["fatal"], error["retryable"]) == (code, True, True)
        assert error["retry_after_ms"] == TOLD
        assert late.close_code == close


async def test_a_refusal_after_a_first_message_over_grpc_says_when_to_come_back() -> None:
    auth = pb.ClientMessage(auth=pb.Auth(token=KEY)).SerializeToString()
    settings = {"max_sessions_per_subject": 1, "retry_after_s": AFTER_S}
    async with (
        serving_all(server=settings, access=ASKING) as (app, _),
        dialled(app) as first,
        grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as channel,
    ):
        await started(first)
        call = channel.stream_stream(METHOD)()
        await call.write(auth)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(await call.trailing_metadata())
        assert trailers[RETRY_KEY] == trailers[PUSHBACK_KEY] == str(TOLD)


@pytest.mark.parametrize("path", ["/api/v1/segmented", "/api/v2/segmented"])
async def test_a_session_that_is_ended_for_its_rate_is_told_when_to_come_back(path: str) -> None:
    parts = scripted()
    assert isinstance(parts.scoring, ScriptedScoring)
    parts.scoring.is_holding = True
    start = V1_START if "v1" in path else V2_START
    stop = {"request": "stop"} if "v1" in path else {"type": "stop", "keep_open": True}
    limits = {"max_pending_messages": 3}
    async with serving(parts, server={"retry_after_s": AFTER_S}, limits=limits) as app, dialled(app, path) as socket:
        await socket.send_json(start)
        await socket.send_bytes(bursts(0.0, 0.5).tobytes())
        await socket.send_json(stop)
        for _ in range(4):
            await socket.send_json(start)
        error = (await events(socket))[-1]
        assert (error["code"], error["fatal"], error["retry_after_ms"]) == ("rate_limited", True, TOLD)


async def test_a_session_that_is_ended_for_its_rate_is_told_so_over_grpc() -> None:
    settings = {"server": {"retry_after_s": AFTER_S}, "limits": {"max_pending_messages": 3}}
    async with serving_all(**settings) as (app, _), calling(app, "grpc", Mode.SEGMENTED) as peer:
        assert isinstance(app.scoring, ScriptedScoring)
        app.scoring.is_holding = True
        await peer.say(Start(S16), Audio(bursts(0.0, 0.5).tobytes()), *[Flush()] * 5)
        await peer.hear_the_end()
        error = peer.heard[-1]
        assert isinstance(error, Error)
        assert (error.code, error.fatal, error.retry_after_ms) == ("rate_limited", True, TOLD)
        assert isinstance(peer.link, GrpcClientTransport)
        trailers = dict(await peer.link._call.trailing_metadata())
        assert trailers[RETRY_KEY] == trailers[PUSHBACK_KEY] == str(TOLD)
