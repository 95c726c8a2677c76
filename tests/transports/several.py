"""A server with several models, and what its clients see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from streamer.app import App, GrpcAvailability
from streamer.config import Settings
from tests.transports.named_models import BROKEN, GATES, LOADS
from tests.transports.serving import SECOND, V1_START, V1_STOP, V2_START, V2_STOP, dialled, events

NAMED = "tests.transports.named_models:Named"
MORTAL = "tests.transports.named_models:Mortal"
ROUTER = "tests.transports.named_models:by_language"
RATE = 16_000


def forget() -> None:
    """Open all gates, and forget what models did."""
    for gate in GATES.values():
        gate.set()
    for names in (GATES, LOADS, BROKEN):
        names.clear()


def named(name: str, **section: Any) -> dict[str, Any]:
    """The section of a model that answers with its name. A load may take as long as a busy machine makes it."""
    return {"model": NAMED, "name": name, "load_wait_s": 300, **section}


ENGLISH_AND_ANY = {"english": named("english"), "any": named("any", sample_rate=8_000)}


@asynccontextmanager
async def serving(models: dict[str, Any] | None = None, **sections: Any) -> AsyncIterator[App]:
    """A server with these models; `sections` are settings."""
    sections["server"] = {"port": 0, **sections.get("server", {})}
    settings = Settings(models=models or ENGLISH_AND_ANY, grpc={"port": -1}, **sections)
    async with App(settings, grpc=GrpcAvailability.REQUIRED) as app:
        yield app


async def spoken(app: App, path: str, **options: Any) -> list[dict[str, Any]]:
    """All events of one stream of a second."""
    start, stop = (V2_START, V2_STOP) if "/v2/" in path else (V1_START, V1_STOP)
    if "options" in options:
        start = {**start, "options": options.pop("options")}
    async with dialled(app, path, **options) as socket:
        await socket.send_json(start)
        await socket.send_bytes(SECOND)
        await socket.send_json(stop)
        return await events(socket)


def answers(said: list[dict[str, Any]]) -> list[Any]:
    """The outputs of a stream, of either protocol version."""
    return [event.get("output", event) for event in said if event["type"] == "segment"]


async def refused(app: App, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and the body of an answer that is no upgrade."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with aiohttp.ClientSession() as http, http.get(app.url + path, headers=upgrade, **options) as answer:
        return answer.status, json.loads(await answer.text())


async def fetched(app: App, path: str) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(app.url + path) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
