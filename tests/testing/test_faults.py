"""The proxy does what it is told and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streamer.testing import HEALTHY, FaultProxy, Toxics, fault_proxy

SILENT = Toxics(silent=True)
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Far:
    """A server that keeps what it hears."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.pieces: list[int] = []
        self.changed = asyncio.Event()
        self.ended: str | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while data := await reader.read(65_536):
                self.heard += data
                self.pieces.append(len(data))
                self.changed.set()
            self.ended = "FIN"
        except ConnectionResetError:
            self.ended = "RST"
        self.changed.set()
        writer.close()

    async def until(self, size: int) -> None:
        while len(self.heard) < size:
            self.changed.clear()
            await self.changed.wait()

    async def end(self) -> str:
        while self.ended is None:
            self.changed.clear()
            await self.changed.wait()
        return self.ended


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Far, FaultProxy, Pair]]:
    far = Far()
    server = await asyncio.start_server(far.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, fault_proxy("127.0.0.1", port) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield far, proxy, (reader, writer)
        finally:
            writer.transport.abort()


async def test_a_healthy_way_carries_everything_and_its_end() -> None:
    async with joined() as (far, proxy, (reader, writer)):
        data = bytes(range(256)) * 4_096
        writer.write(data)
        await far.until(len(data))
        assert far.heard == data
        assert far.writer is not None
        far.writer.write(b"back")
        assert await reader.readexactly(4) == b"back"
        writer.write_eof()
        assert await far.end() == "FIN"
        assert await reader.read() == b""
        await proxy.idle()
        assert len(proxy) == 0


async def test_slices_arrive_whole_and_in_order() -> None:
    async with joined() as (far, proxy, (_, writer)):
        await proxy.set(up=Toxics(slice_bytes=3, latency_s=0.001))
        writer.write(b"0123456789")
        await far.until(10)
        assert far.heard == b"0123456789"
        assert max(far.pieces) <= 6  # two may meet in the kernel
        assert len(far.pieces) > 1


async def test_a_narrow_way_takes_its_time() -> None:
    async with joined() as (far, proxy, (_, writer)):
        await proxy.set(up=Toxics(bytes_per_s=10_000))
        began = asyncio.get_running_loop().time()
        writer.write(bytes(2_000))
        await far.until(2_000)
        assert asyncio.get_running_loop().time() - began >= 0.19


async def test_a_limit_resets_both_sides_after_exactly_so_many_bytes() -> None:
    async with joined() as (far, proxy, (reader, writer)):
        await proxy.set(up=Toxics(limit_bytes=7, slice_bytes=5))
        writer.write(b"0123456789")
        assert await far.end() == "RST"
        assert bytes(far.heard) in (b"0123456", b"01234", b"")  # an RST may overtake what was not read yet
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_silence_holds_data_and_ends_back_until_it_is_over() -> None:
    async with joined() as (far, proxy, (_, writer)):
        await proxy.set(up=Toxics(silent=True))
        writer.write(b"hello")
        writer.write_eof()
        await asyncio.sleep(0.05)
        assert (bytes(far.heard), far.ended) == (b"", None)
        await proxy.set(up=HEALTHY)
        assert await far.end() == "FIN"
        assert far.heard == b"hello"


async def test_a_reset_is_felt_on_both_sides() -> None:
    async with joined() as (far, proxy, (reader, writer)):
        writer.write(b"x")
        await far.until(1)
        proxy.reset()
        assert await far.end() == "RST"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await proxy.idle()
        assert len(proxy) == 0


async def test_a_connection_that_is_gone_can_be_reset() -> None:
    async with joined() as (_, proxy, (_, writer)):
        await proxy.set(up=SILENT, down=SILENT)
        while not proxy._live:
            await asyncio.sleep(0)
        [(near, *_)] = proxy._live.values()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        writer.transport.abort()
        while not near.is_closing():
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the loop lets go of the socket
        proxy.reset()
        await proxy.set(up=HEALTHY, down=HEALTHY)
        await proxy.idle()


async def test_a_limit_on_one_way_ends_the_other_without_an_error() -> None:
    async with joined() as (far, proxy, (_, writer)):
        await proxy.set(up=Toxics(limit_bytes=7))
        writer.write(b"01")
        await far.until(2)
        [connection] = proxy._live
        writer.write(b"23456789")
        await connection
