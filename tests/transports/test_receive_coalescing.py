"""Sockets that are read once it is worth it: nothing is kept from the server for long, and in no crowd at all."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from streamer.testing import ManualClock
from streamer.transports.receive_coalescing import CHECK_INTERVAL_S, MAX_WAIT_S, ReceiveCoalescer, SocketWatermark

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux promises how SO_RCVLOWAT is told")


class FakeSocket:
    """One real connection: what a client sends, and whether a server would be woken to read it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def woken(self) -> bool:
        return bool(select.select([self.server], [], [], 0.02)[0])

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def line() -> Iterator[FakeSocket]:
    made = FakeSocket()
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def patience(clock: ManualClock) -> ReceiveCoalescer:
    return ReceiveCoalescer(crowd=0, clock=clock)


@pytest.fixture
def level(patience: ReceiveCoalescer, line: FakeSocket) -> SocketWatermark:
    return patience.add(line.server)


def test_a_socket_is_read_once_there_is_enough(line: FakeSocket, level: SocketWatermark) -> None:
    level.set(1_000)
    line.client.send(bytes(999))
    assert not line.woken()
    line.client.send(bytes(1))
    assert line.woken()


def test_what_is_not_enough_is_read_after_a_while_all_the_same(
    line: FakeSocket, level: SocketWatermark, clock: ManualClock, patience: ReceiveCoalescer
) -> None:
    level.set(1_000)
    line.client.send(b"stop")
    assert not line.woken()
    clock.advance(MAX_WAIT_S + CHECK_INTERVAL_S)
    assert line.woken()
    assert (patience.raised_count, clock.timers) == (0, 0)


def test_who_is_read_in_time_is_held_on(line: FakeSocket, level: SocketWatermark, clock: ManualClock) -> None:
    for _ in range(20):
        level.set(1_000)
        clock.advance(MAX_WAIT_S - CHECK_INTERVAL_S)
    line.client.send(bytes(500))
    assert not line.woken()


def test_an_end_is_heard_of_at_once(line: FakeSocket, level: SocketWatermark) -> None:
    level.set(1_000)
    line.client.send(b"bye")
    line.client.close()
    assert line.woken()


def test_one_that_is_late_does_not_release_those_that_are_not(patience: ReceiveCoalescer, clock: ManualClock) -> None:
    lines = [FakeSocket() for _ in range(3)]
    levels = [patience.add(each.server) for each in lines]
    for level in levels:
        level.set(1_000)
    clock.advance(MAX_WAIT_S / 2)
    levels[0].set(1_000)
    levels[2].set(1_000)
    clock.advance(MAX_WAIT_S / 2 + CHECK_INTERVAL_S)
    for each in lines:
        each.client.send(bytes(10))
    assert [each.woken() for each in lines] == [False, True, False]
    for each in lines:
        each.close()


def test_where_there_is_no_crowd_every_byte_is_read(line: FakeSocket, clock: ManualClock) -> None:
    patience = ReceiveCoalescer(crowd=2, clock=clock)
    levels = [patience.add(line.server) for _ in range(2)]
    levels[0].set(1_000)
    line.client.send(b"x")
    assert line.woken()
    more = patience.add(line.server)
    levels[0].set(1_000)
    assert not line.woken()
    more.close()
    levels[0].set(1_000)
    assert line.woken()


def test_who_has_left_leaves_nothing_and_a_closed_socket_is_no_error(
    line: FakeSocket, level: SocketWatermark, clock: ManualClock, patience: ReceiveCoalescer
) -> None:
    other = patience.add(line.server)
    other.set(1_000)
    level.set(1_000)
    level.close()
    assert patience.raised_count == 1
    line.server.close()
    clock.advance(1.0)
    other.close()
    assert (patience.raised_count, patience.is_enabled, clock.timers) == (0, False, 0)


def test_the_last_bytes_of_a_connection_that_is_closed_are_read_at_once(
    line: FakeSocket, level: SocketWatermark, clock: ManualClock
) -> None:
    level.set(1_000)
    line.client.send(b"bye")
    assert not line.woken()
    level.close()
    assert line.woken()
