"""A real server is stopped and goes on, as in a container that is frozen: nobody who spoke meanwhile is cut off."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import aiohttp
import psutil
import pytest

from tests.cli.serving import Server, served
from tests.faults.arena import FORMAT, SECOND

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="more than one process needs Linux")

IDLE_S = 4.0
PAUSE_S = 1.5 * IDLE_S
CLIENTS = 30


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Every process of the server stands still."""
    parent = psutil.Process(server.process.pid)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


async def rest(client: aiohttp.ClientWebSocketResponse) -> tuple[list[str], int | None]:
    """What is told besides acks and results, and the close code."""
    events = [message.json() async for message in client]
    told = [event.get("code", event["type"]) for event in events if event["type"] in ("error", "warning", "finished")]
    return told, client.close_code


@pytest.mark.parametrize(
    "arguments", [("--set", "model.executor=process"), ("--workers", "2")], ids=["model in a process", "two processes"]
)
async def test_who_spoke_while_the_server_was_stopped_is_not_cut_off(arguments: tuple[str, ...]) -> None:
    settings = (f"limits.idle_timeout_s={IDLE_S}", "session.lag_warning_s=3600", "drain.lag_s=0")
    flags = [word for setting in settings for word in ("--set", setting)]
    with served("stub", "--grpc-port", "0", *flags, *arguments) as server:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http, AsyncExitStack() as stack:
            clients = []
            for _ in range(CLIENTS):
                address = server.websocket_url + "/api/v2/simple"
                client = await stack.enter_async_context(http.ws_connect(address))
                await client.send_json({"type": "start", "format": FORMAT})
                assert (await client.receive_json())["type"] == "started"
                clients.append(client)
            with stopped(server):
                for client in clients:
                    await client.send_bytes(SECOND)
                await asyncio.sleep(PAUSE_S)
            for client in clients:
                await client.send_json({"type": "stop"})
            assert await asyncio.gather(*map(rest, clients)) == [(["finished"], 1000)] * CLIENTS
        server.signal(signal.SIGTERM)
        assert server.ended()[0] == 0
