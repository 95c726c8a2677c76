"""Rows 4 to 7 of the fault table: frames that are too big, compressed, empty, or too many."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import psutil
import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from tests.faults.arena import LocalArena
from tests.faults.fault import CLOSED, Fault, fatal, fault, gone, harmless, session
from tests.faults.peers import SECOND, START, STOP
from tests.faults.raw import BINARY, CONTINUATION, PING, TEXT, frame, header, started, text
from tests.faults.servers import LARGEST_BYTES as MOST
from tests.faults.servers import impatient

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOO_BIG = session(ErrorCode.MESSAGE_TOO_BIG, end=ErrorCode.MESSAGE_TOO_BIG)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    async with impatient() as arena:
        yield arena


# Row 4: frames that are too big -------------------------------------------------------------------


@fault(4, TOO_BIG)
async def test_a_frame_that_claims_a_terabyte_is_refused_before_its_payload(arena: LocalArena) -> None:
    memory = psutil.Process().memory_info().rss
    async with arena.raw() as peer:
        await peer.send(header(BINARY, 2**40) + bytes(1_000))
        assert await peer.close_code() == 1009
    assert psutil.Process().memory_info().rss - memory < 50e6


@fault(4, lambda case: TOO_BIG if case["size"] > MOST else harmless(received_s=2.048))
@pytest.mark.parametrize(("size", "code"), [(MOST, 1000), (MOST + 1, 1009), (70_000, 1009)])
async def test_a_frame_at_the_limit_and_one_past_it(arena: LocalArena, size: int, code: int) -> None:
    async with arena.raw() as peer:
        await started(peer)
        await peer.send(frame(BINARY, bytes(size)))
        await peer.send(text(STOP["v2"]))
        assert await peer.close_code() == code


@fault(4, gone(received_s=0.0) + Fault(ends=("RESOURCE_EXHAUSTED",)))
async def test_a_message_that_grpc_itself_finds_too_big_is_never_read(arena: LocalArena) -> None:
    """Some bytes past the limit it still is, to be refused by name: see the limits."""
    async with arena.call() as peer:
        await peer.start()
        await peer.hear("started")
        await peer.audio(bytes(70_000), cut=70_000)
        assert await peer.rest() == []


@fault(4, TOO_BIG)
async def test_fragments_are_one_message_with_one_limit(arena: LocalArena) -> None:
    async with arena.raw() as peer:
        await started(peer)
        await peer.send(frame(BINARY, bytes(1_000), fin=False))
        async with peer.flooding(frame(CONTINUATION, bytes(1_000), fin=False), 70):
            assert await peer.close_code() == 1009


# Row 5: a compression bomb -------------------------------------------------------------------------


@fault(5, session(ErrorCode.PROTOCOL_ERROR, end=ErrorCode.PROTOCOL_ERROR))
async def test_compression_is_not_agreed_to_and_a_bomb_is_a_protocol_error(arena: LocalArena) -> None:
    bomb = zlib.compress(bytes(10**7))[2:]
    async with arena.raw(headers=b"Sec-WebSocket-Extensions: permessage-deflate\r\n") as peer:
        await started(peer)
        await peer.send(frame(BINARY, bomb, rsv1=True))
        assert await peer.close_code() == 1002


@fault(5, Fault(ends=("UNIMPLEMENTED",)))
async def test_a_compressed_message_is_refused_over_grpc(arena: LocalArena) -> None:
    async with arena.call(compression=grpc.Compression.Gzip) as peer:
        with suppress(ConnectionError):
            await peer.start()
        assert await peer.rest() == []


# Row 6: empty fragments --------------------------------------------------------------------------


@fault(6, fatal(ErrorCode.IDLE_TIMEOUT))
async def test_a_flood_of_empty_fragments_adds_up_to_nothing_and_is_no_sign_of_life(arena: LocalArena) -> None:
    async with arena.raw() as peer:
        await started(peer)
        await peer.send(frame(TEXT, fin=False))
        async with peer.flooding(frame(CONTINUATION, fin=False) * 10_000, 20):
            assert await peer.close_code() == 4408


@fault(6, harmless(received_s=1.0))
async def test_an_empty_fragmented_message_is_an_empty_message(arena: LocalArena) -> None:
    async with arena.raw() as peer:
        await started(peer)
        await peer.send(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 1_000 + frame(CONTINUATION))
        await peer.send(frame(BINARY, SECOND) + text(STOP["v2"]))
        while (event := await peer.next_event())["type"] != "finished":
            pass
        assert event["processed"] == 16_000
        assert await peer.close_code() == 1000


# Row 7: pings and tiny messages -------------------------------------------------------------------


@fault(7, harmless(received_s=1.0))
async def test_a_flood_of_pings_is_answered_and_delays_nobody(arena: LocalArena) -> None:
    async with arena.raw() as peer:
        await started(peer)
        for _ in range(20):
            await peer.send(frame(PING, b"x") * 1_000)
            for _ in range(1_000):
                await peer.reader.readexactly(3)
        await peer.send(frame(BINARY, SECOND) + text(STOP["v2"]))
        assert await peer.close_code() == 1000


@fault(7, session(ErrorCode.IDLE_TIMEOUT))
async def test_a_flood_of_pings_whose_pongs_nobody_reads_is_cut_off_in_bounded_memory(arena: LocalArena) -> None:
    memory = psutil.Process().memory_info().rss
    async with arena.raw(small_buffers=True) as peer:
        await peer.send(text(START["v2"]))
        async with peer.flooding(frame(PING) * 10_000, 500):
            await arena.sight.until(CLOSED)
    assert psutil.Process().memory_info().rss - memory < 50e6


@fault(7, harmless(received_s=1.0))
async def test_a_flood_of_tiny_messages_is_taken_in_order(arena: LocalArena) -> None:
    async with arena.raw() as peer:
        await started(peer)
        for _ in range(32):
            await peer.send(frame(BINARY, b"\0") * 1_000)
        await peer.send(text(STOP["v2"]))
        assert await peer.close_code() == 1000


@fault(7, harmless(received_s=0.2))
async def test_a_flood_of_tiny_messages_over_grpc_is_taken_in_order(arena: LocalArena) -> None:
    async with arena.call() as peer:
        await peer.start()
        await peer.audio(SECOND[:6_400], cut=4)
        await peer.stop()
        assert (await peer.rest())[-1]["processed"] == 3_200


@fault(7, Fault())
async def test_a_flood_of_pings_over_http2_is_sent_away(arena: LocalArena) -> None:
    """By gRPC itself (too_many_pings), whoever else is connected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.port_of("grpc"))
    writer.write(HTTP2_PREFACE + http2_frame(SETTINGS) + http2_frame(HTTP2_PING, bytes(8)) * 1_000)
    said = await reader.read()
    assert b"too_many_pings" in said
    writer.close()


HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HTTP2_PING = 0x4, 0x6


def http2_frame(kind: int, payload: bytes = b"") -> bytes:
    """RFC 9113 4.1, of the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload
