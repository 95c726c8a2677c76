"""A real server on a real socket whose part is written by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

Script = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]

S16_V2 = '{"encoding":"pcm_s16le","sample_rate":16000,"channels":1}'
FINISHED = '{"type":"finished","reason":"stopped","received":0,"processed":0,"segments":0,"failed":0}'


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    """Yields `ws://127.0.0.1:PORT`; every path runs `script` and then closes normally."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("streamer.v2",))
        await socket.prepare(request)
        await script(socket, request)
        await socket.close()
        return socket

    async with answering(handle) as address:
        yield address


@asynccontextmanager
async def answering(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def until_stop(socket: web.WebSocketResponse) -> tuple[list[str], bytes]:
    """Everything a client says up to its stop: its text frames, and its audio joined."""
    texts, audio = [], b""
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            audio += message.data
        else:
            texts.append(message.data)
            if '"stop"' in message.data:
                break
    return texts, audio


def close_without_a_code(request: web.Request) -> None:
    """End the WebSocket by an empty close frame, which a peer reads as 1005 (RFC 6455, 7.1.5), and the connection."""
    assert request.transport is not None
    request.transport.write(b"\x88\x00")
    request.transport.close()
