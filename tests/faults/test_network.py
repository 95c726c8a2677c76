"""Rows 1 to 3, 12, 19 and 20 of the fault table: slow readers, handshakes without an end, silence, lost peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from streamer.errors import ErrorCode
from streamer.testing import Toxics, fault_proxy
from tests.faults.arena import LocalArena, reset
from tests.faults.fault import CLOSED, Fault, fatal, fault, gone, harmless, refusal, session
from tests.faults.peers import SECOND, START, TRANSPORTS, WAYS, Peer
from tests.faults.raw import BINARY, UPGRADE, Raw, frame, header, raw, started, text
from tests.faults.servers import START_S, impatient

pytestmark = pytest.mark.asyncio(loop_scope="module")

both = pytest.mark.parametrize("way", TRANSPORTS)

FLUSHES = b"".join(text({"type": "flush", "id": f"{number:0250}"}) for number in range(100))
"""Each is answered by an event of its size that may not be dropped."""
TOO_SLOW = session(ErrorCode.SLOW_CONSUMER)
"""Told to the operator; the client does not listen."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalArena]:
    async with impatient() as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def patient_arena(request: pytest.FixtureRequest) -> AsyncIterator[LocalArena]:
    """A server that gives a client that it has closed the time to read so."""
    async with impatient(close_timeout_s=20.0) as server, server.observed(request.node):
        yield server


# Rows 1 and 2: readers that do not keep up --------------------------------------------------------


async def floods(arena: LocalArena, peer: Peer) -> None:
    """Asks over gRPC for answers of a kilobyte and reads none, until the server has had enough: HTTP/2 itself lets some
    megabytes wait."""
    for _ in range(20_000):
        if arena.told.codes:
            break
        await peer.say({"type": "flush", "id": "\N{GRINNING FACE}" * 256})
    await arena.told.until(ErrorCode.SLOW_CONSUMER)
    await arena.sight.until(CLOSED)


@fault(1, TOO_SLOW)
async def test_a_reader_of_a_kilobyte_a_second_is_cut_off_when_too_much_waits(arena: LocalArena) -> None:
    async with fault_proxy("127.0.0.1", arena.app.port) as proxy, arena.raw(port=proxy.port) as peer:
        await started(peer)
        await proxy.set(down=Toxics(bytes_per_s=1_000))
        async with peer.flooding(FLUSHES, 40):
            await arena.sight.until(CLOSED)


@fault(1, TOO_SLOW)
async def test_a_reader_of_a_kilobyte_a_second_is_cut_off_over_grpc(arena: LocalArena) -> None:
    async with fault_proxy("127.0.0.1", arena.port_of("grpc")) as proxy, arena.call(port=proxy.port) as peer:
        await peer.start()
        await peer.hear("started")
        await proxy.set(down=Toxics(bytes_per_s=1_000))
        await floods(arena, peer)


@fault(1, harmless(received_s=0.5))
@both
async def test_a_reader_of_a_kilobyte_a_second_that_asks_for_little_is_served(arena: LocalArena, way: str) -> None:
    async with fault_proxy("127.0.0.1", arena.port_of(way)) as proxy, arena.peer(way, port=proxy.port) as peer:
        await peer.start()
        await peer.hear("started")
        await proxy.set(down=Toxics(bytes_per_s=1_000))
        await peer.audio(SECOND[:16_000])
        await peer.stop()
        assert (await peer.rest())[-1]["processed"] == 8_000


@fault(2, TOO_SLOW)
async def test_a_client_that_never_reads_is_cut_off(arena: LocalArena) -> None:
    async with arena.raw(small_buffers=True) as peer:
        await peer.send(text(START["v2"]))
        async with peer.flooding(FLUSHES, 40):
            await arena.sight.until(CLOSED)


@fault(2, TOO_SLOW)
async def test_a_client_that_never_reads_is_cut_off_over_grpc(arena: LocalArena) -> None:
    async with arena.call() as peer:
        await peer.start()
        await floods(arena, peer)


@fault(2, fatal(ErrorCode.SLOW_CONSUMER))
async def test_a_client_that_stops_reading_is_told_so_if_it_comes_back_in_time(patient_arena: LocalArena) -> None:
    arena = patient_arena
    async with arena.raw(small_buffers=True) as peer:
        await peer.send(text(START["v2"]))
        async with peer.flooding(FLUSHES, 10):
            await arena.told.until(ErrorCode.SLOW_CONSUMER)
        while (await peer.next_event())["type"] != "error":
            pass
        assert await peer.close_code() == 4430


# Row 3: handshakes that never end -----------------------------------------------------------------


@fault(3, refusal(ErrorCode.START_TIMEOUT))
async def test_a_handshake_drop_by_drop_is_cut_off(arena: LocalArena) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
    dropped = asyncio.create_task(reader.read())
    for drop in UPGRADE:
        writer.write(bytes([drop]))
        await asyncio.wait([dropped], timeout=0.05)
        if dropped.done():
            break
    assert dropped.done()
    writer.close()


@fault(3, Fault())
async def test_a_connection_that_never_speaks_http2_is_dropped_unseen(arena: LocalArena) -> None:
    """By gRPC itself, before it is a call."""
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.port_of("grpc"))
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()


@fault(3, (refusal(ErrorCode.OVERLOADED) + refusal(ErrorCode.START_TIMEOUT, 20)) + harmless())
async def test_more_handshakes_than_allowed_are_turned_away_and_streams_go_on(arena: LocalArena) -> None:
    mute = [await asyncio.open_connection("127.0.0.1", arena.app.port) for _ in range(20)]
    reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
    writer.close()
    for reader, writer in mute:  # each is dropped at its time-out
        assert await reader.read() == b""
        writer.close()
    async with arena.peer("v2") as peer:
        await peer.still_works()


@fault(3, Fault())
async def test_a_request_that_is_no_http_is_refused_without_a_traceback(arena: LocalArena) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET /" + b"a" * 20_000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", arena.app.port)
        writer.write(nonsense)
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()


# Row 12: silence ----------------------------------------------------------------------------------


@fault(12, fatal(ErrorCode.START_TIMEOUT, streams=0))
@pytest.mark.parametrize("way", WAYS)
async def test_no_start_in_time(arena: LocalArena, way: str) -> None:
    async with arena.peer(way) as peer:
        assert (await peer.ended_with(ErrorCode.START_TIMEOUT, f"{START_S:g} s"))["retryable"]


# Rows 19 and 20: peers that vanish ----------------------------------------------------------------


@fault(19, gone())
@pytest.mark.parametrize("after", [b"", frame(BINARY, SECOND), header(BINARY, 1_000) + bytes(10)])
async def test_a_reset_in_mid_stream_ends_the_session_at_once(arena: LocalArena, after: bytes) -> None:
    async with arena.raw() as peer:
        await started(peer)
        await peer.send(after)
        reset(_plain(peer))
        await arena.sight.until(CLOSED)


@fault(19, gone())
@both
async def test_a_reset_by_the_network_ends_the_session_at_once(arena: LocalArena, way: str) -> None:
    async with fault_proxy("127.0.0.1", arena.port_of(way)) as proxy, arena.peer(way, port=proxy.port) as peer:
        await peer.start()
        await peer.hear("started")
        await peer.audio(SECOND)
        await peer.hear("segment")
        proxy.reset()
        await arena.sight.until(CLOSED)


async def test_a_proxy_that_resets_after_so_many_bytes_leaves_nothing(server: LocalArena) -> None:
    before = await server.settled()
    async with fault_proxy("127.0.0.1", server.app.port) as proxy:
        for limit in (10, 200, 300, 1_000, 20_000):
            await proxy.set(up=Toxics(limit_bytes=limit))
            try:
                async with raw(proxy.port) as peer:
                    await peer.send(text(START["v2"]) + frame(BINARY, SECOND) * 3)
                    await peer.close_code()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
    await server.counts_back_at(before)


@fault(20, session(ErrorCode.IDLE_TIMEOUT))
@both
async def test_a_peer_that_falls_silent_without_a_word_is_given_up(arena: LocalArena, way: str) -> None:
    silent = Toxics(silent=True)
    async with fault_proxy("127.0.0.1", arena.port_of(way)) as proxy, arena.peer(way, port=proxy.port) as peer:
        await peer.start()
        await peer.hear("started")
        await peer.audio(SECOND)
        await proxy.set(up=silent, down=silent)  # no FIN, no RST, and nobody answers the server's close
        await arena.sight.until(CLOSED)
        await arena.until_only_the_neighbour_is_left()
        proxy.reset()  # what the client would not learn otherwise


def _plain(peer: Raw) -> socket.socket:
    """The connection as a socket of its own, let go of by asyncio."""
    taken = peer.writer.get_extra_info("socket").dup()
    duplicate: socket.socket = taken
    peer.writer.transport.abort()
    return duplicate


async def test_a_client_gone_before_its_upgrade_is_answered_is_no_error_of_ours(server: LocalArena) -> None:
    before = await server.settled()
    await server.sight.begin()
    for _ in range(10):
        for _ in range(10):  # of the 20 that may be no sessions yet
            connection = socket.create_connection(("127.0.0.1", server.app.port))
            connection.sendall(UPGRADE + b"\r\n")
            reset(connection)
        async with server.peer("v2") as peer:  # which is accepted after them
            await peer.still_works()
        await server.counts_back_at(before)
    assert not [line for line in server.sight.logged() if line["level"] == "error"]
