"""An echo on the server's own WebSocket settings: what Autobahn's client is let loose on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from streamer.errors import StreamerError
from streamer.supervision.single_process import loop_factory
from streamer.transports.handshake import Upgrades
from streamer.transports.limits import HandshakeLimits
from streamer.transports.listener import Listener
from streamer.transports.websocket import WebSocketFrame, WebSocketTransport

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The limit is not what is tested here: some cases send 16 MiB."""


class Echo:
    """Says what it hears, on whichever way that came, and at once if it can: the next bytes may break the rules."""

    coalesce_bytes = 0

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self._later: asyncio.Queue[WebSocketFrame | None] = asyncio.Queue()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._answer())
            self._transport.set_sink(self)
            with suppress(StreamerError):  # the framing was wrong, and the peer has been told
                while (frame := await self._transport.receive()) is not None:
                    self.feed_frame(frame)
            self._later.put_nowait(None)

    def feed_frame(self, frame: WebSocketFrame) -> bool:
        if not self._later.empty() or not self._transport.send_now(frame):
            self._later.put_nowait(frame)
        return True

    def low_watermark_bytes(self) -> int:
        return 0

    async def _answer(self) -> None:
        with suppress(ConnectionError):
            while (frame := await self._later.get()) is not None:
                await self._transport.send(frame)


async def main() -> None:
    upgrades = Upgrades()

    async def echo(request: web.Request) -> web.StreamResponse:
        transport = WebSocketTransport(request, (), MAX_MESSAGE_BYTES, close_timeout_s=5.0)
        return await upgrades.answer(transport, converse(transport))

    async def converse(transport: WebSocketTransport) -> None:
        """Upgrade, and say what is heard until the peer goes."""
        transport.upgrade()
        await Echo(transport).run()
        await transport.close(None)

    application = web.Application()
    application.router.add_get("/", echo)
    limits = HandshakeLimits(100, timeout_s=5.0, on_refused=lambda *_: None)
    port = await Listener(application, limits, shutdown_timeout_s=1.0).start("127.0.0.1", 0)
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
