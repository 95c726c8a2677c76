"""An echo on the server's own WebSocket settings: what Autobahn's client is let loose on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from streamer.errors import StreamerError
from streamer.serving.loop import loop_factory
from streamer.transports.listener import Handshakes, listen
from streamer.transports.websocket import WebSocketTransport

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The limit is not what is tested here: some cases send 16 MiB."""


async def echo(request: web.Request) -> web.StreamResponse:
    transport = WebSocketTransport(request, (), MAX_MESSAGE_BYTES, close_timeout_s=5.0)
    await transport.upgrade()
    with suppress(StreamerError):  # the framing was wrong, and the peer has been told
        while (frame := await transport.receive()) is not None:
            await transport.send(frame)
    return transport.response


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", echo)
    handshakes = Handshakes(100, timeout_s=5.0, sessions=lambda: 0, refused=lambda *_: None)
    _, port = await listen(application, "127.0.0.1", 0, handshakes, shutdown_timeout_s=1.0)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
