"""The in-memory pair behaves as a network would: ordered, bounded, ended from either side."""

from __future__ import annotations

import asyncio

import pytest

from streamer.errors import ErrorCode
from streamer.testing import memory_pair


async def test_frames_arrive_in_order_both_ways() -> None:
    client, server = memory_pair()
    for frame in ("a", b"b", "c"):
        await client.send(frame)
        await server.send(frame)
    assert [await server.receive() for _ in range(3)] == ["a", b"b", "c"]
    assert [await client.receive() for _ in range(3)] == ["a", b"b", "c"]


async def test_a_sender_waits_while_the_other_end_does_not_read() -> None:
    client, server = memory_pair(bound=1)
    await server.send("a")
    sending = asyncio.create_task(server.send("b"))
    await asyncio.sleep(0)
    assert not sending.done()
    assert await client.receive() == "a"
    await sending
    assert await client.receive() == "b"


async def test_a_frame_is_sent_at_once_only_where_there_is_room() -> None:
    client, server = memory_pair(bound=1)
    assert [server.send_now("a"), server.send_now("b")] == [True, False]
    assert await client.receive() == "a"
    assert server.send_now("c")
    assert await client.receive() == "c"
    client.close()
    assert not server.send_now("d")


async def test_what_was_said_before_a_close_is_heard() -> None:
    client, server = memory_pair()
    await server.send("last words")
    await server.close(ErrorCode.DRAINING, "draining")
    await server.close(None)
    assert [await client.receive(), await client.receive()] == ["last words", None]
    assert client.close_info is not None
    assert (client.close_info.code, client.close_info.reason) == (ErrorCode.DRAINING, "draining")
    with pytest.raises(ConnectionResetError):
        await client.send("too late")


async def test_an_abort_loses_what_was_on_its_way() -> None:
    client, server = memory_pair()
    await server.send("lost")
    server.abort()
    assert await client.receive() is None


async def test_a_client_that_leaves_is_heard_to_its_end_and_cannot_be_written_to() -> None:
    client, server = memory_pair()
    await client.send("bye")
    client.close()
    assert [await server.receive(), await server.receive()] == ["bye", None]
    with pytest.raises(ConnectionResetError):
        await server.send("hello?")


async def test_a_close_wakes_who_waits() -> None:
    client, server = memory_pair(bound=1)
    waiting = asyncio.create_task(server.receive())
    await asyncio.sleep(0)
    client.close()
    assert await waiting is None
