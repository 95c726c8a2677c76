"""A real server on a real port, with scripted parts behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from streamer.app import App
from streamer.config import Settings
from streamer.parts import AppParts, ServedModel
from streamer.testing import ScriptedEngine, ScriptedScoring

V1_START = {
    "request": "start",
    "format": {"channels": 1, "sample_rate": 16_000, "bit_depth": 16, "is_float": False},
}
V1_STOP = {"request": "stop", "disconnect": True}
V2_START = {
    "type": "start",
    "format": {"encoding": "pcm_s16le", "sample_rate": 16_000, "channels": 1},
    "chunk_ms": 500,
}
V2_STOP = {"type": "stop"}
SECOND = b"\0\0" * 16_000


def scripted() -> AppParts:
    return AppParts(ScriptedEngine(), ScriptedScoring(), ServedModel("scripted", 16_000, False, 4))


@asynccontextmanager
async def serving(parts: AppParts | None = None, **sections: Any) -> AsyncIterator[App]:
    """An app on a free port; `sections` are settings."""
    server = {"port": 0, **sections.pop("server", {})}
    async with App(Settings(server=server, **sections), parts=parts or scripted()) as app:
        yield app


@asynccontextmanager
async def dialled(
    app: App, path: str = "/api/v2/simple", **options: Any
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(app.url + path, **options) as socket:
        yield socket


async def events(socket: aiohttp.ClientWebSocketResponse) -> list[dict[str, Any]]:
    """Everything until the server closes."""
    return [message.json() async for message in socket]
