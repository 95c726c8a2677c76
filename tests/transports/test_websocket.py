"""The WebSocket shell over a real socket: frames, pings, limits, closes, refusals."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from streamer.app import App
from streamer.config import Settings
from streamer.errors import Overloaded
from streamer.parts import AppParts
from streamer.testing import ScriptedEngine
from tests.transports.serving import SECOND, V1_START, V1_STOP, V2_START, V2_STOP, dialled, events, scripted, serving


async def test_v2_is_spoken_and_closed_normally() -> None:
    async with serving() as app, dialled(app) as socket:
        await socket.send_json(V2_START)
        await socket.send_bytes(SECOND)
        await socket.send_json(V2_STOP)
        heard = await events(socket)
        assert [event["type"] for event in heard if event["type"] != "ack"] == [
            "started",
            "segment",
            "segment",
            "finished",
        ]
        assert socket.close_code == 1000


async def test_v1_is_spoken_and_closed_normally() -> None:
    async with serving() as app, dialled(app, "/api/v1/simple") as socket:
        await socket.send_json(V1_START)
        await socket.send_bytes(SECOND)
        await socket.send_json(V1_STOP)
        heard = await events(socket)
        assert sum(event["count"] for event in heard) == 16_000
        assert socket.close_code == 1000


async def test_the_subprotocol_is_echoed_where_offered() -> None:
    async with serving() as app:
        async with dialled(app, protocols=["other", "streamer.v2"]) as socket:
            assert socket.protocol == "streamer.v2"
        async with dialled(app) as socket:
            assert socket.protocol is None


async def test_a_ping_is_answered() -> None:
    async with serving() as app, dialled(app, autoping=False) as socket:
        await socket.ping(b"there?")
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"there?")


async def test_compression_is_not_agreed_to() -> None:
    async with serving() as app, dialled(app, compress=15) as socket:
        assert not socket.compress


@pytest.mark.parametrize(("size", "code"), [(64, 1000), (65, 1009)])
async def test_a_message_at_the_limit_passes_and_one_byte_more_does_not(size: int, code: int) -> None:
    limits = {"max_audio_message_bytes": 64, "max_control_bytes": 16}
    async with serving(limits={**limits, "max_control_bytes": 200}) as app, dialled(app, "/api/v2/simple") as socket:
        await socket.send_json(V2_START)
        await socket.send_bytes(b"\0" * (size if size == 64 else 300))
        if code == 1000:
            await socket.send_json(V2_STOP)
        await events(socket)
        assert socket.close_code == code


async def test_a_fatal_error_closes_with_its_code_and_name() -> None:
    async with serving() as app, dialled(app) as socket:
        await socket.send_json(V2_START | {"format": {"encoding": "pcm_s16le", "sample_rate": 1, "channels": 1}})
        message = await socket.receive()
        assert message.json()["code"] == "invalid_format"
        closing = await socket.receive()
        assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 4400, "invalid_format")


async def test_a_client_that_leaves_politely_is_answered() -> None:
    async with serving() as app:
        async with dialled(app) as socket:
            await socket.send_json(V2_START)
            await socket.close(code=1000)
            assert socket.close_code == 1000
        await app.connections.wait_empty()
        assert app.admission.active == 0


async def _refused(app: object, path: str = "/api/v2/simple") -> tuple[int, dict[str, object], str | None]:
    url = app.url + path  # type: ignore[attr-defined]
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, await response.json(), response.headers.get("Retry-After")


async def test_past_the_most_sessions_a_client_is_refused_before_the_upgrade() -> None:
    async with serving(server={"max_sessions": 2, "retry_after_s": 1.5}) as app:
        async with dialled(app), dialled(app):
            status, body, retry_after = await _refused(app)
            assert (status, body["code"], body["retryable"], body["retry_after_s"]) == (503, "overloaded", True, 1.5)
            assert retry_after == "2"
        await app.connections.wait_empty()
        async with dialled(app) as socket:  # places come back
            assert not socket.closed


async def test_an_engine_without_room_refuses_new_sessions() -> None:
    parts = scripted()
    assert isinstance(parts.engine, ScriptedEngine)
    async with serving(parts) as app:
        parts.engine.refuse_admission = Overloaded("too much waits", retry_after_s=3)
        status, body, retry_after = await _refused(app)
        assert (status, body["message"], retry_after) == (503, "too much waits", "3")


async def test_before_the_model_is_warm_sessions_are_refused_and_readyz_says_so() -> None:
    parts = scripted()
    loading, warm = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedEngine):
        async def start(self) -> None:
            loading.set()
            await warm.wait()

    app = App(Settings(server={"port": 0}), parts=AppParts(Slow(), parts.scoring, parts.model))
    starting = asyncio.create_task(app.start())
    try:
        await loading.wait()
        status, body, _ = await _refused(app)
        assert (status, body["code"], body["message"]) == (503, "overloaded", "the server is starting")
        async with aiohttp.ClientSession() as http:
            async with http.get(app.url + "/readyz") as response:
                assert (response.status, (await response.json())["reason"]) == (503, "starting")
            async with http.get(app.url + "/livez") as response:
                assert response.status == 200
            warm.set()
            await starting
            async with http.get(app.url + "/readyz") as response:
                assert response.status == 200
    finally:
        warm.set()
        await app.stop()


async def test_a_draining_server_refuses_new_sessions_and_sees_the_old_ones_out() -> None:
    async with serving(drain={"lag_s": 0, "soft_s": 0.05, "spread_s": 0, "hard_s": 5}) as app, dialled(app) as socket:
        await socket.send_json(V2_START)
        await socket.send_bytes(SECOND)
        draining = asyncio.create_task(app.drain(lag_s=0))
        await asyncio.sleep(0)
        status, body, _ = await _refused(app)
        assert (status, body["code"]) == (503, "draining")
        heard = await events(socket)
        await draining
        assert "draining" in [event["type"] for event in heard]
        assert (heard[-1]["type"], heard[-1]["reason"], heard[-1]["processed"]) == ("finished", "drained", 16_000)
        assert socket.close_code == 1012
