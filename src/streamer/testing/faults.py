"""A TCP proxy that injects network faults between a client and a server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_CHUNK = 64 * 1024
_RESET_ON_CLOSE = b"\x01\0\0\0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Toxics:
    """Faults of one direction."""

    latency_s: float = 0.0
    """Delay of each piece in seconds."""
    bytes_per_s: float | None = None
    """Bandwidth. Excess bytes wait and block the sender."""
    slice_bytes: int | None = None
    """Size of the pieces, each of which is a packet."""
    limit_bytes: int | None = None
    """Bytes after which the connection is reset."""
    silent: bool = False
    """Nothing is forwarded and nothing ends: no FIN, no RST, no answer."""


HEALTHY = Toxics()


class _Direction:
    """One direction of one connection."""

    def __init__(self, toxics: Callable[[], Toxics], cut: Callable[[], None], changed: asyncio.Condition) -> None:
        self._toxics = toxics
        self._cut = cut
        self._changed = changed
        self.passed = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward bytes until EOF, which is forwarded as well."""
        while data := await self._read(reader):
            for piece in self._slice(data):
                await self._delay(len(piece))
                await self._wait_audible()
                if writer.is_closing():  # writing to it is an error on some loops and has no effect on others
                    raise ConnectionResetError("the other end is gone")
                writer.write(piece[: self._room()])
                await writer.drain()
                self.passed += len(piece)
                if not self._room():
                    self._cut()
                    return
        await self._wait_audible()
        if not writer.is_closing():
            writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read at most one second's worth of bytes: with a low bandwidth, the rest stays with the sender."""
        rate = self._toxics().bytes_per_s
        return await reader.read(_CHUNK if rate is None else max(1, min(_CHUNK, int(rate))))

    def _slice(self, data: bytes) -> list[bytes]:
        size = self._toxics().slice_bytes or len(data)
        return [data[at : at + size] for at in range(0, len(data), size)]

    def _room(self) -> int:
        limit = self._toxics().limit_bytes
        return _CHUNK if limit is None else max(0, limit - self.passed)

    async def _delay(self, size: int) -> None:
        toxics = self._toxics()
        seconds = toxics.latency_s + (size / toxics.bytes_per_s if toxics.bytes_per_s else 0.0)
        if seconds:
            await asyncio.sleep(seconds)

    async def _wait_audible(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._toxics().silent)


class FaultProxy:
    """Proxy in front of a server; `up` is the direction to it, `down` the one back. Both can be changed at any time.

    ```python
    async with fault_proxy("127.0.0.1", server_port) as proxy:
        ...  # connect to proxy.port
        await proxy.set(down=Toxics(bytes_per_s=1_000))
    ```
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.up = self.down = HEALTHY
        self.port = 0
        """Port of the proxy on 127.0.0.1."""
        self._changed = asyncio.Condition()
        self._idle = asyncio.Event()
        self._live: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._live)

    async def set(self, *, up: Toxics | None = None, down: Toxics | None = None) -> None:
        """Change the faults from now on; None leaves a direction unchanged."""
        async with self._changed:
            self.up, self.down = up or self.up, down or self.down
            self._changed.notify_all()

    def reset(self) -> None:
        """Reset every connection with an RST, in both directions."""
        for writers in tuple(self._live.values()):
            _reset(writers)

    async def idle(self) -> None:
        """Wait until no connection is open."""
        while self._live:
            self._idle.clear()
            await self._idle.wait()

    async def stop(self) -> None:
        """Reset all connections and stop."""
        self.reset()
        tasks = tuple(self._live)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self._live[task] = (writer,)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._live[task] = writers = (writer, far_writer)
            with suppress(asyncio.CancelledError):  # by `stop`, which waits for this task
                await self._join(reader, writer, far_reader, far_writer)
            for one in writers:
                one.close()
        finally:
            del self._live[task]
            self._idle.set()

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        def cut() -> None:
            _reset((writer, far_writer))

        up = _Direction(lambda: self.up, cut, self._changed)
        down = _Direction(lambda: self.down, cut, self._changed)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(up.carry(reader, far_writer))
                ways.create_task(down.carry(far_reader, writer))
        except* OSError:  # a reset, or an end that cannot be forwarded any more
            cut()  # an error on one side ends the other


def _reset(writers: tuple[asyncio.StreamWriter, ...]) -> None:
    for writer in writers:
        if not writer.is_closing():
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy in front of host:port on a free port."""
    proxy = FaultProxy(host, port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
