"""Rows 1 to 7, 19 and 20 of the fault table: networks and clients that misbehave below the protocol."""

from __future__ import annotations

import asyncio
import logging
import socket
import zlib
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from streamer.app import App
from streamer.config import Settings
from streamer.errors import ErrorCode
from streamer.testing import Toxics, fault_proxy
from tests.faults.arena import FORMAT, SECOND, START, STOP, Arena, reset
from tests.faults.ends import GONE, STOPPED, Ends
from tests.faults.raw import BINARY, CONTINUATION, PING, TEXT, UPGRADE, Raw, frame, header, raw, started, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLE_S = 2.5
MODEL = {"delay": 0.0, "constant_factor": 0.0, "jitter": 0.0, "warmup_penalty": 0.0}
FLUSHES = b"".join(text({"type": "flush", "id": f"{number:0250}"}) for number in range(100))
"""Each is answered by an event of its size that may not be dropped."""


class Observed(Arena):
    """A server of which we hear how its sessions end."""

    def __init__(self, app: App, ends: Ends) -> None:
        super().__init__(app)
        self.heartbeat = IDLE_S / 2
        self.ends = ends


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Observed]:
    settings = Settings(
        server={
            "port": 0,
            "handshake_timeout_s": 0.4,
            "max_handshakes": 20,
            "outbox_bytes": 16 * 1024,
            "outbox_stall_s": 0.5,
            "close_timeout_s": 0.3,
            "send_buffer_bytes": 8 * 1024,
        },
        session={"stall_timeout_s": 0},  # the neighbour pauses for as long as a fault takes
        limits={"idle_timeout_s": IDLE_S},
        model=MODEL,
    )
    async with App(settings) as app:
        arena = Observed(app, Ends(app.registry))
        async with arena.healthy_session():  # what a session hears when it is alone
            pass
        with arena.ends.listening():
            yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(server: Observed, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Observed]:
    """Around each fault: a healthy session that must not notice; nothing left behind, and no traceback logged."""
    before = await server.settled()
    async with server.healthy_session():
        server.ends.begin()
        yield server
    await server.counts_back_at(before)
    assert not [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]


# Rows 1 and 2: readers that do not keep up --------------------------------------------------------


async def test_a_reader_of_a_kilobyte_a_second_is_cut_off_when_too_much_waits(arena: Observed) -> None:
    async with fault_proxy("127.0.0.1", arena.app.port) as proxy, raw(proxy.port) as peer:
        await started(peer)
        await proxy.set(down=Toxics(bytes_per_s=1_000))
        await peer.flood(FLUSHES, 40)
        await arena.ends.ended(ErrorCode.SLOW_CONSUMER)


async def test_a_reader_of_a_kilobyte_a_second_that_asks_for_little_is_served(arena: Observed) -> None:
    async with fault_proxy("127.0.0.1", arena.app.port) as proxy, raw(proxy.port) as peer:
        await started(peer)
        await proxy.set(down=Toxics(bytes_per_s=1_000))
        await peer.send(frame(BINARY, SECOND[:16_000]) + text(STOP["v2"]))
        while (event := await peer.next_event())["type"] != "finished":
            pass
        assert event["processed"] == 8_000
        assert await peer.close_code() == 1000
        await arena.ends.ended(STOPPED)


async def test_a_client_that_never_reads_is_cut_off(arena: Observed) -> None:
    async with raw(arena.app.port, small_buffers=True) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        await peer.flood(FLUSHES, 40)
        await arena.ends.ended(ErrorCode.SLOW_CONSUMER)


async def test_a_client_that_stops_reading_is_told_so_if_it_comes_back_in_time(arena: Observed) -> None:
    async with raw(arena.app.port, small_buffers=True) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        await peer.flood(FLUSHES, 10)
        await asyncio.sleep(0.8)
        events = [await peer.next_event()]
        while events[-1]["type"] != "error":
            events.append(await peer.next_event())
        assert (events[-1]["code"], events[-1]["fatal"]) == ("slow_consumer", True)
        assert await peer.close_code() == 4430
        await arena.ends.ended(ErrorCode.SLOW_CONSUMER)


# Row 3: handshakes that never end -----------------------------------------------------------------


async def test_a_handshake_drop_by_drop_is_cut_off(arena: Observed) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
    began = asyncio.get_running_loop().time()
    for at in range(len(UPGRADE)):
        writer.write(UPGRADE[at : at + 1])
        await asyncio.sleep(0.05)
        if reader.at_eof():
            break
    assert 0.3 < asyncio.get_running_loop().time() - began < 3
    writer.close()


async def test_more_handshakes_than_allowed_are_turned_away_and_streams_go_on(arena: Observed) -> None:
    mute = [await asyncio.open_connection("127.0.0.1", arena.app.port) for _ in range(20)]
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    writer.close()
    for reader, writer in mute:  # each is dropped at its time-out
        assert await reader.read() == b""
        writer.close()
    async with arena.peer("v2") as peer:
        await peer.still_works()


async def test_a_request_that_is_no_http_is_refused_without_a_traceback(arena: Observed) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET /" + b"a" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
        writer.write(nonsense)
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()


# Rows 4 to 7: frames ------------------------------------------------------------------------------


async def test_a_frame_that_claims_a_terabyte_is_refused_before_its_payload(arena: Observed) -> None:
    memory = psutil.Process().memory_info().rss
    async with raw(arena.app.port) as peer:
        await peer.send(header(BINARY, 2**40) + bytes(1_000))
        assert await peer.close_code() == 1009
        await arena.ends.ended(ErrorCode.MESSAGE_TOO_BIG)
    assert psutil.Process().memory_info().rss - memory < 50e6


@pytest.mark.parametrize(("size", "code"), [(64 * 1024, 1000), (64 * 1024 + 1, 1009), (70_000, 1009)])
async def test_a_frame_at_the_limit_and_one_past_it(arena: Observed, size: int, code: int) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        await peer.send(frame(BINARY, bytes(size)))
        await peer.send(text(STOP["v2"]))
        assert await peer.close_code() == code


async def test_fragments_are_one_message_with_one_limit(arena: Observed) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        await peer.send(frame(BINARY, bytes(1_000), fin=False))
        await peer.flood(frame(CONTINUATION, bytes(1_000), fin=False), 70)
        assert await peer.close_code() == 1009
        await arena.ends.ended(ErrorCode.MESSAGE_TOO_BIG)


async def test_compression_is_not_agreed_to_and_a_bomb_is_a_protocol_error(arena: Observed) -> None:
    bomb = zlib.compress(bytes(10**7))[2:]
    async with raw(arena.app.port, headers=b"Sec-WebSocket-Extensions: permessage-deflate\r\n") as peer:
        await started(peer)
        await peer.send(frame(BINARY, bomb, rsv1=True))
        assert await peer.close_code() == 1002
        await arena.ends.ended(ErrorCode.PROTOCOL_ERROR)


async def test_a_flood_of_empty_fragments_adds_up_to_nothing_and_is_no_sign_of_life(arena: Observed) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        await peer.send(frame(TEXT, fin=False))
        for _ in range(20):
            await peer.flood(frame(CONTINUATION, fin=False) * 10_000, 1)
        assert await peer.close_code() == 4408
        await arena.ends.ended(ErrorCode.IDLE_TIMEOUT)


async def test_an_empty_fragmented_message_is_an_empty_message(arena: Observed) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        await peer.send(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 1_000 + frame(CONTINUATION))
        await peer.send(frame(BINARY, SECOND) + text(STOP["v2"]))
        while (event := await peer.next_event())["type"] != "finished":
            pass
        assert event["processed"] == 16_000
        assert await peer.close_code() == 1000


async def test_a_flood_of_pings_is_answered_and_delays_nobody(arena: Observed) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        for _ in range(20):
            await peer.send(frame(PING, b"x") * 1_000)
            for _ in range(1_000):
                await peer.reader.readexactly(3)
        await peer.send(frame(BINARY, SECOND) + text(STOP["v2"]))
        assert await peer.close_code() == 1000


async def test_a_flood_of_pings_whose_pongs_nobody_reads_is_cut_off_in_bounded_memory(arena: Observed) -> None:
    memory = psutil.Process().memory_info().rss
    async with raw(arena.app.port, small_buffers=True) as peer:
        await peer.send(text({"type": "start", "format": FORMAT}))
        await peer.flood(frame(PING) * 10_000, 500)
        await arena.ends.ended(ErrorCode.IDLE_TIMEOUT)
    assert psutil.Process().memory_info().rss - memory < 50e6


async def test_a_flood_of_tiny_messages_is_taken_in_order(arena: Observed) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        for _ in range(32):
            await peer.send(frame(BINARY, b"\0") * 1_000)
        await peer.send(text(STOP["v2"]))
        while (event := await peer.next_event())["type"] != "finished":
            pass
        assert event["processed"] == 16_000


# Rows 19 and 20: peers that vanish ----------------------------------------------------------------


@pytest.mark.parametrize("after", [b"", frame(BINARY, SECOND), header(BINARY, 1_000) + bytes(10)])
async def test_a_reset_in_mid_stream_ends_the_session_at_once(arena: Observed, after: bytes) -> None:
    async with raw(arena.app.port) as peer:
        await started(peer)
        await peer.send(after)
        await asyncio.sleep(0.05)
        reset(_plain(peer))
        await arena.ends.ended(GONE)


async def test_a_proxy_that_resets_after_so_many_bytes_leaves_nothing(arena: Observed) -> None:
    async with fault_proxy("127.0.0.1", arena.app.port) as proxy:
        for limit in (10, 200, 300, 1_000, 20_000):
            await proxy.set(up=Toxics(limit_bytes=limit))
            try:
                async with raw(proxy.port) as peer:
                    await peer.send(text(START["v2"]) + frame(BINARY, SECOND) * 3)
                    await peer.close_code()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass


async def test_a_peer_that_falls_silent_without_a_word_is_given_up(arena: Observed) -> None:
    silent = Toxics(silent=True)
    async with fault_proxy("127.0.0.1", arena.app.port) as proxy, raw(proxy.port) as peer:
        await started(peer)
        await peer.send(frame(BINARY, SECOND))
        await proxy.set(up=silent, down=silent)  # no FIN, no RST, and nobody answers the server's close
        await arena.ends.ended(ErrorCode.IDLE_TIMEOUT)
        for _ in range(300):
            if len(arena.app.conductor) == 1:
                break
            await asyncio.sleep(0.01)
        assert len(arena.app.conductor) == 1  # only the neighbour


def _plain(peer: Raw) -> socket.socket:
    """The connection as a socket of its own, let go of by asyncio."""
    taken = peer.writer.get_extra_info("socket").dup()
    duplicate: socket.socket = taken
    peer.writer.transport.abort()
    return duplicate


async def test_a_client_gone_before_its_upgrade_is_answered_is_no_error_of_ours(arena: Observed) -> None:
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", arena.app.port))
        connection.sendall(UPGRADE + b"\r\n")
        reset(connection)
    async with arena.peer("v2") as peer:
        await peer.still_works()
