"""An echo on the server's own WebSocket settings: what Autobahn's client is let loose on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from streamer.errors import StreamerError
from streamer.runtime.transport import Ear
from streamer.serving.loop import loop_factory
from streamer.transports.listener import Handshakes, listen
from streamer.transports.websocket import Frame, WebSocketTransport

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The limit is not what is tested here: some cases send 16 MiB."""


async def echo(request: web.Request) -> web.StreamResponse:
    """Says what it hears, on whichever way that came, and at once if it can: the next bytes may break the rules."""
    transport = WebSocketTransport(request, (), MAX_MESSAGE_BYTES, close_timeout_s=5.0)
    await transport.upgrade()
    later: asyncio.Queue[Frame | None] = asyncio.Queue()

    def take(frame: Frame) -> bool:
        if not later.empty() or not transport.send_now(frame):
            later.put_nowait(frame)
        return True

    async def answer() -> None:
        with suppress(ConnectionError):
            while (frame := await later.get()) is not None:
                await transport.send(frame)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        transport.hand_over(Ear(take, joined=0, wanted=lambda: 0))
        with suppress(StreamerError):  # the framing was wrong, and the peer has been told
            while (frame := await transport.receive()) is not None:
                take(frame)
        later.put_nowait(None)
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
